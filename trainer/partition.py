"""ZeRO-1 for weights that lie whole on each rank: each optimises its share of a weight's rows, then all gather them.

Rajbhandari et al. 2020, section 5.1. Gradients are reduce-scattered, so that a step moves as many bytes as with DDP.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from trainer.parallel import World

gather_rows = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_rows = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""torch 2.13 has given them new names, and warns of the old ones."""


class Partition:
    """Who optimises what. A weight whose rows do not divide by the ranks is optimised by all, as with DDP."""

    def __init__(self, weights: Iterable[nn.Parameter], world: World) -> None:
        self.rank, self.size = world.rank, world.size
        self.shared = {weight for weight in weights if weight.shape[0] % world.size == 0}
        self.mesh = init_device_mesh(world.device.type, (world.size,))

    def own(self, weight: nn.Parameter, tensor: Tensor) -> Tensor:
        """This rank's rows of ``tensor``, which is as long as ``weight``; all rows of a weight that is not shared."""
        if weight not in self.shared:
            return tensor
        rows = weight.shape[0] // self.size
        return tensor[self.rank * rows : (self.rank + 1) * rows]

    def state_of(self, weight: nn.Parameter) -> Tensor:
        """Zeros for an optimiser's state: of a shared weight only this rank's rows are in memory."""
        rows = torch.zeros_like(self.own(weight, weight))
        return DTensor.from_local(rows, self.mesh, [Shard(0)]) if weight in self.shared else rows

    def counted(self, weights: Iterable[nn.Parameter]) -> list[float]:
        """What each weight's sum of squares counts in a sum over the ranks, so that none counts twice."""
        return [1.0 if weight in self.shared else 1.0 / self.size for weight in weights]

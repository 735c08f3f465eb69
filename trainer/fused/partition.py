"""ZeRO-1 and FSDP for the fused kernels: each rank keeps and optimises its share of every matrix's rows.

Rajbhandari et al. 2020, section 5. Gradients are added up whole and reduce-scattered once a step. What a rank needs of
the others' rows comes in the working dtype: all of them once a step (ZeRO-1), or a block's when the block runs (FSDP).
"""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from jobctl.trainer.distributed import World

gather_rows = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_rows = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""torch 2.13 has given them new names, and warns of the old ones."""


class Partition:
    """Who keeps which rows. A matrix whose rows do not divide by the ranks stays whole on each, as with DDP."""

    def __init__(self, world: World, reshard: bool) -> None:
        """``reshard``: blocks give the others' rows back when they have run (FSDP)."""
        self.world = world
        self.reshard = reshard
        self.mesh = init_device_mesh(world.device.type, (world.size,))

    def shard(self, model: nn.Module) -> None:
        """Of every matrix that is multiplied by, and of the table of embeddings, leave only this rank's rows."""
        for module in (model.embed_tokens, *(m for m in model.modules() if isinstance(m, nn.Linear))):
            weight: nn.Parameter = module.weight  # type: ignore[assignment,union-attr]
            if weight.shape[0] % self.world.size == 0:
                rows = distribute_tensor(weight.detach(), self.mesh, [Shard(0)])
                module.weight = nn.Parameter(rows)  # type: ignore[union-attr]

    def own(self, whole: Tensor) -> Tensor:
        """This rank's rows of a matrix that all ranks share, in the same memory; all rows where they do not divide."""
        rows, left = divmod(whole.shape[0], self.world.size)
        return whole if left else whole[self.world.rank * rows : (self.world.rank + 1) * rows]

    def as_part(self, rows: Tensor, weight: Tensor) -> Tensor:
        """This rank's rows of something of ``weight``'s shape, as a part of it."""
        return DTensor.from_local(rows, self.mesh, [Shard(0)]) if isinstance(weight, DTensor) else rows

    def gather(self, whole: Tensor, own: Tensor) -> dist.Work | None:
        """Begin to fill ``whole`` with every rank's ``own`` rows; what to wait for, if anything."""
        if own.shape[0] < whole.shape[0]:
            work: dist.Work | None = gather_rows(whole, own, async_op=True)
            return work

        if own is not whole:
            whole.copy_(own)

        return None

"""ZeRO-1 and FSDP for the fused kernels: each rank keeps and optimises its share of every matrix's rows.

Rajbhandari et al. 2020, section 5. Gradients are summed whole, and reduce-scattered once a step. A rank gets
the rows of the others in the working dtype: all of them once a step (ZeRO-1), or those of a block when it
runs (FSDP).
"""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from jobctl.trainer.distributed import World

gather_rows = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_rows = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""torch 2.13 gave these functions new names, and warns of the old ones."""


class Partition:
    """The rows of each rank.

    A matrix whose rows do not divide by the ranks stays whole on each rank, as with DDP.
    """

    def __init__(self, world: World, reshard: bool) -> None:
        """With ``reshard`` a block drops the other ranks' rows after it has run (FSDP)."""
        self.world = world
        self.reshard = reshard
        self.mesh = init_device_mesh(world.device.type, (world.size,))

    def shard(self, model: nn.Module) -> None:
        """Keep only this rank's rows of every linear layer's matrix and of the embedding."""
        for module in (model.embed_tokens, *(m for m in model.modules() if isinstance(m, nn.Linear))):
            weight: nn.Parameter = module.weight  # type: ignore[assignment,union-attr]
            if weight.shape[0] % self.world.size == 0:
                # It sends rank 0's rows to the others, so the weights are the same on all ranks.
                rows = distribute_tensor(weight.detach(), self.mesh, [Shard(0)])
                module.weight = nn.Parameter(rows)  # type: ignore[union-attr]

    def own(self, whole: Tensor) -> Tensor:
        """Return a view of this rank's rows of a matrix.

        If the rows do not divide by the ranks, return all of them.
        """
        rows, remainder = divmod(whole.shape[0], self.world.size)
        return whole if remainder else whole[self.world.rank * rows : (self.world.rank + 1) * rows]

    def as_part(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return ``rows``, this rank's rows of a tensor with the shape of ``weight``, as a part of that tensor."""
        return DTensor.from_local(rows, self.mesh, [Shard(0)]) if isinstance(weight, DTensor) else rows

    def gather(self, whole: Tensor, own: Tensor) -> dist.Work | None:
        """Begin to fill ``whole`` with every rank's ``own`` rows. Return the work to wait for, or None."""
        if own.shape[0] < whole.shape[0]:
            work: dist.Work | None = gather_rows(whole, own, async_op=True)
            return work

        # It is whole on every rank, and nobody needs to be asked.
        if own is not whole:
            whole.copy_(own)

        return None

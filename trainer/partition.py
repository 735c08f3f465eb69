"""ZeRO-1 and FSDP for the fused kernels: each rank keeps and optimises its share of every matrix's rows.

Rajbhandari et al. 2020, section 5. Gradients are added up whole and reduce-scattered once a step. What a rank needs of
the others' rows comes in the working dtype: all of them once a step (ZeRO-1), or a block's when the block runs (FSDP).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from trainer.parallel import World

if TYPE_CHECKING:
    from trainer.kernels.linear import Projection

gather_rows = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_rows = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""torch 2.13 has given them new names, and warns of the old ones."""


class Partition:
    """Who keeps which rows. A matrix whose rows do not divide by the ranks stays whole on each, as with DDP."""

    def __init__(self, world: World, reshard: bool) -> None:
        """``reshard``: blocks give the others' rows back when they have run (FSDP)."""
        self.rank, self.size, self.reshard = world.rank, world.size, reshard
        self.mesh = init_device_mesh(world.device.type, (world.size,))

    def shard(self, model: nn.Module) -> None:
        """Of every matrix that is multiplied by, and of the table of embeddings, leave only this rank's rows."""
        for module in (model.embed_tokens, *(m for m in model.modules() if isinstance(m, nn.Linear))):
            weight: nn.Parameter = module.weight  # type: ignore[assignment,union-attr]
            if weight.shape[0] % self.size == 0:
                rows = distribute_tensor(weight.detach(), self.mesh, [Shard(0)])
                module.weight = nn.Parameter(rows)  # type: ignore[union-attr]

    def own(self, whole: Tensor) -> Tensor:
        """This rank's rows of a matrix that all ranks share, in the same memory; all rows where they do not divide."""
        rows, left = divmod(whole.shape[0], self.size)
        return whole if left else whole[self.rank * rows : (self.rank + 1) * rows]

    def as_part(self, rows: Tensor, weight: nn.Parameter) -> Tensor:
        """This rank's rows of something of ``weight``'s shape, as a part of it."""
        return DTensor.from_local(rows, self.mesh, [Shard(0)]) if isinstance(weight, DTensor) else rows

    def gather(self, whole: Tensor, own: Tensor) -> dist.Work | None:
        """Begin to fill ``whole`` with every rank's ``own`` rows; what to wait for, if anything."""
        if own.shape[0] < whole.shape[0]:
            return gather_rows(whole, own, async_op=True)
        if own is not whole:
            whole.copy_(own)
        return None


class BlockWeights:
    """Working weights of two blocks at a time: while one block computes, the next one's are on their way.

    Blocks are used in order, forward and then backward. A gather is queued when all that is to read the memory before
    it has been, and NCCL lets it wait for what was queued before, so two buffers are enough.
    """

    def __init__(self, blocks: Sequence[Sequence[Projection]]) -> None:
        self.blocks = blocks
        for index, block in enumerate(blocks):
            for projection, buffer in zip(block, blocks[index % 2], strict=True):
                projection.move_to(buffer.working)
        self.forget()

    def forget(self) -> None:
        """What has been gathered is out of date."""
        self.held: list[int | None] = [None, None]
        self.under_way: dict[int, list[dist.Work]] = {}

    def need(self, index: int, step: int) -> None:
        """Let the device wait for this block's weights, and gather the next one's; ``step`` is 1 or, backward, -1."""
        self.fetch(index)
        self.fetch(index + step)
        for work in self.under_way.pop(index, ()):
            work.wait()

    def before_backward(self, index: int, _: Tensor) -> None:
        """The hook of a gradient that is there when a block's backward pass is the next to run."""
        self.need(index, -1)

    def fetch(self, index: int) -> None:
        if 0 <= index < len(self.blocks) and self.held[index % 2] != index:
            self.held[index % 2] = index
            self.under_way[index] = [work for p in self.blocks[index] for work in p.gather()]

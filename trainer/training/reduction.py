"""Averages gradients over the ranks, in float32, while the step's last backward pass is still making others.

For weights that lie whole on each rank and whose gradients the fused kernels add up in place, where the hooks of
DistributedDataParallel would not see them. As there (Li et al. 2020, section 3.2.3), communication overlaps with the
rest of the backward pass; a bucket is the gradient of one product's weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from jobctl.trainer.distributed import World
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.fused.partition import scatter_rows


class OverlappedReduction:
    """Once a step: ``begin`` before the last backward pass, ``finish`` after it.

    Every rank gets rank 0's parameters when this is made. Of projections with a partition a rank gets only the sum of
    the rows that it keeps; the others of its gradient are then of no use.
    """

    def __init__(self, model: nn.Module, projections: Sequence[Projection], world: World) -> None:
        self.projections = projections
        self.world_size = world.size
        multiplied = {weight for projection in projections for weight in projection.weights}
        self.others = [parameter for parameter in model.parameters() if parameter not in multiplied]
        self.averages = world.device.type == "cuda"
        """NCCL divides by the number of ranks; gloo cannot."""
        self._under_way: list[tuple[dist.Work, Tensor]] = []

        with torch.no_grad():
            for parameter in model.parameters():
                if not isinstance(parameter, DTensor):  # those have come from rank 0
                    dist.broadcast(parameter, 0)

    def begin(self) -> None:
        """From now on a gradient that is complete is on its way."""
        for projection in self.projections:
            projection.on_complete = self._reduce_product

    def finish(self) -> None:
        """Reduce the remaining gradients, the gains in one message, and let the device wait for all."""
        # Other backward passes, such as an earlier micro-step's, must send nothing.
        for projection in self.projections:
            projection.on_complete = None

        gradients = [parameter.grad for parameter in self.others if parameter.grad is not None]
        # The gains of norms are many and small: one message costs less than a hundred.
        message = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._reduce(message, message)

        # With NCCL the device waits, and the host goes on and queues the update.
        for work, gradient in self._under_way:
            work.wait()
            # gloo has added, and the division is left to us.
            if not self.averages:
                gradient.div_(self.world_size)

        self._under_way.clear()
        parts = message.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(
            gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        )

    def _reduce_product(self, projection: Projection) -> None:
        # A sharded sum goes by weights, because each weight's rows are divided among the ranks.
        gradient, _ = projection.gradient()
        for part in gradient.split(projection.rows) if projection.partition else [gradient]:
            self._reduce(part, projection.own_rows(part))

    def _reduce(self, gradient: Tensor, own: Tensor) -> None:
        """Average all of a gradient, or only ``own``, this rank's rows of it, in place."""
        operation = dist.ReduceOp.AVG if self.averages else dist.ReduceOp.SUM
        if own is gradient:
            work = dist.all_reduce(gradient, operation, async_op=True)
        else:
            work = scatter_rows(own, gradient, operation, async_op=True)

        assert work is not None
        self._under_way.append((work, own))

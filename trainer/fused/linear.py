"""Matrix products with a bfloat16 working copy of float32 weights.

The product itself sums the gradients in float32.

Autocast rounds every weight again in every micro-step, and rounds each micro-step's gradient to bfloat16
before the addition. Here the weights are rounded once a step. The product that makes a weight's gradient adds
it in float32 to the sum of the earlier micro-steps (like Megatron-LM's gradient accumulation fusion). Weights
that multiply the same input (q, k, v; gate, up) share one product: their copies and gradients are rows of one
matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jobctl.trainer.distributed import local
from jobctl.trainer.fused.cublaslt import product
from jobctl.trainer.fused.partition import Partition
from jobctl.trainer.models.products import add_product_into, product_into


class Projection:
    """Weights ``[rows_i, columns]`` that multiply the same input, as one working matrix.

    Backward itself adds to the weights' ``.grad``, and autograd sees no gradient. It does so ``uses`` times
    in a backward pass. After the last time it calls ``on_complete``, if that is set. With a ``partition`` the
    weights are this rank's rows, and ``gather`` copies the other ranks' rows into the working matrix.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        dtype: torch.dtype,
        uses: int = 1,
        partition: Partition | None = None,
    ) -> None:
        self.weights = tuple(weights)
        self.uses = uses
        self.partition = partition
        self.on_complete: Callable[[Projection], None] | None = None
        self._added = 0
        self.rows = [weight.shape[0] for weight in weights]
        first = weights[0]
        self.working = torch.empty(sum(self.rows), first.shape[1], dtype=dtype, device=first.device)
        self.copies = self.working.split(self.rows)
        self.own = [self.own_rows(copy) for copy in self.copies]
        """The rows of each copy that this rank's optimiser renews."""
        # Made in the first backward pass and then kept, since a CUDA graph writes to its address.
        self._gradient: Tensor | None = None

    def own_rows(self, whole: Tensor) -> Tensor:
        return self.partition.own(whole) if self.partition else whole

    def move_to(self, working: Tensor, own: Sequence[Tensor]) -> None:
        """Use ``working``, memory that other projections use in turn.

        Keep this rank's rows apart, in the flat ``own``.
        """
        self.own = [memory.view_as(rows) for memory, rows in zip(own, self.own, strict=True)]
        self.working = working
        self.copies = working.split(self.rows)

    def gather(self) -> list[dist.Work]:
        """Begin to fill the working matrix with all ranks' rows. Return the work to wait for."""
        if self.partition is None:
            return []
        pairs = zip(self.copies, self.own, strict=True)
        return [work for copy, rows in pairs if (work := self.partition.gather(copy, rows))]

    def gradient(self) -> tuple[Tensor, bool]:
        """Return the float32 sum ``[rows, columns]`` that holds the weights' ``.grad``, and True if it is empty."""
        fresh = all(weight.grad is None for weight in self.weights)
        if self._gradient is None:
            self._gradient = torch.empty(self.working.shape, dtype=torch.float32, device=self.working.device)

        for weight, part in zip(self.weights, self._gradient.split(self.rows), strict=True):
            rows = self.own_rows(part)
            # The address tells whether this sum already is the weight's gradient.
            made_elsewhere = weight.grad is not None and local(weight.grad).data_ptr() != rows.data_ptr()
            if weight.grad is not None and not made_elsewhere:
                continue

            # With a fresh sum the product overwrites, and no zeros are needed.
            if not fresh:
                part.zero_()

            # Somebody else set this gradient, for example a plain backward pass. Its value is kept.
            if weight.grad is not None:
                rows.copy_(local(weight.grad))

            weight.grad = self.partition.as_part(rows, weight) if self.partition else rows

        return self._gradient, fresh

    def add_product(self, right: Tensor, *lefts: Tensor) -> None:
        """Add ``left.T @ right`` to the gradient, with one left for all rows or one left for each weight."""
        total, fresh = self.gradient()
        put = product_into if fresh else add_product_into
        for left, part in zip(lefts, total.split([left.shape[1] for left in lefts]), strict=True):
            put(part, left.t(), right)

        self.added()

    def added(self) -> None:
        """Note that a backward pass has added to the gradient once more."""
        self._added = (self._added + 1) % self.uses
        # A tied table is used twice, and must not be sent before the second use.
        if self.on_complete is not None and self._added == 0:
            self.on_complete(self)


class ProjectionProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.projection = projection
        # The weights are arguments so that autograd calls backward even if x needs no gradient.
        return product(x, projection.working.t())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        upstream = upstream.reshape(-1, upstream.shape[-1])
        dx = product(upstream, ctx.projection.working).view(x.shape) if ctx.needs_input_grad[0] else None
        ctx.projection.add_product(x.reshape(-1, x.shape[-1]), upstream)
        return dx, None, *(None for _ in ctx.projection.weights)


class ApartProduct(torch.autograd.Function):
    """One product in forward.

    Backward reads the gradients of its parts from their places, so that none is copied.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.projection = projection
        parts: tuple[Tensor, ...] = product(x, projection.working.t()).split(projection.rows, dim=-1)
        return parts

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        projection: Projection = ctx.projection
        parts = [part.reshape(-1, part.shape[-1]) for part in upstream]
        dx = product(parts[0], projection.copies[0])

        for part, copy in zip(parts[1:], projection.copies[1:], strict=True):
            # Each product also adds the one before, which saves a pass over memory.
            dx = product(part, copy, dx)

        projection.add_product(x.reshape(-1, x.shape[-1]), *parts)

        return dx.view(x.shape), None, *(None for _ in projection.weights)


def project(x: Tensor, projection: Projection) -> Tensor:
    """Map x ``[..., columns]`` to ``[..., rows]`` in the working dtype."""
    out: Tensor = ProjectionProduct.apply(x, projection, *projection.weights)  # type: ignore[no-untyped-call]
    return out


def project_apart(x: Tensor, projection: Projection) -> tuple[Tensor, ...]:
    """Map x ``[..., columns]`` to ``[..., rows_i]`` for each of the weights."""
    parts: tuple[Tensor, ...] = ApartProduct.apply(x, projection, *projection.weights)  # type: ignore[no-untyped-call]
    return parts

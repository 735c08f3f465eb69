"""Matrix products with a bfloat16 working copy of float32 weights, their gradients summed in float32 by the product.

Autocast rounds every weight again in every micro-step and rounds each micro-step's gradient to bfloat16 before it is
added. Here the weights are rounded once a step, and the product that makes a weight's gradient adds it in float32 to
what the earlier micro-steps left (as Megatron-LM's gradient accumulation fusion does). Weights that multiply the same
input (q, k, v; gate, up) share one product: their copies and gradients are rows of one matrix.
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

    Backward adds to the weights' ``.grad`` itself, and autograd sees no gradient. ``uses`` is how often it does in a
    backward pass; ``on_complete``, where set, is called after the last of them. With a ``partition`` the weights are
    this rank's rows, and ``gather`` brings the others' into the working matrix.
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
        """Of each copy what this rank's optimiser renews."""
        self._gradient: Tensor | None = None

    def own_rows(self, whole: Tensor) -> Tensor:
        return self.partition.own(whole) if self.partition else whole

    def move_to(self, working: Tensor, own: Sequence[Tensor]) -> None:
        """Work in memory that others use in turn; this rank's rows are then kept apart from it, in flat ``own``."""
        self.own = [memory.view_as(rows) for memory, rows in zip(own, self.own, strict=True)]
        self.working = working
        self.copies = working.split(self.rows)

    def gather(self) -> list[dist.Work]:
        """Begin to fill the working matrix with all ranks' rows; what to wait for."""
        if self.partition is None:
            return []
        pairs = zip(self.copies, self.own, strict=True)
        return [work for copy, own in pairs if (work := self.partition.gather(copy, own))]

    def gradient(self) -> tuple[Tensor, bool]:
        """The float32 sum ``[rows, columns]`` that the weights' ``.grad`` lie in; True if it holds nothing yet."""
        fresh = all(weight.grad is None for weight in self.weights)
        if self._gradient is None:
            self._gradient = torch.empty(self.working.shape, dtype=torch.float32, device=self.working.device)

        for weight, part in zip(self.weights, self._gradient.split(self.rows), strict=True):
            own = self.own_rows(part)
            made_elsewhere = weight.grad is not None and local(weight.grad).data_ptr() != own.data_ptr()
            if weight.grad is not None and not made_elsewhere:
                continue

            if not fresh:
                part.zero_()

            if weight.grad is not None:
                own.copy_(local(weight.grad))

            weight.grad = self.partition.as_part(own, weight) if self.partition else own

        return self._gradient, fresh

    def add_product(self, right: Tensor, *lefts: Tensor) -> None:
        """Add ``left.T @ right`` to the gradient: of one left for all rows, or of one for each of the weights."""
        total, fresh = self.gradient()
        put = product_into if fresh else add_product_into
        for left, part in zip(lefts, total.split([left.shape[1] for left in lefts]), strict=True):
            put(part, left.t(), right)

        self.added()

    def added(self) -> None:
        """A backward pass has added to the gradient once more."""
        self._added = (self._added + 1) % self.uses
        if self.on_complete is not None and self._added == 0:
            self.on_complete(self)


class ProjectionProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.projection = projection
        return product(x, projection.working.t())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        upstream = upstream.reshape(-1, upstream.shape[-1])
        dx = product(upstream, ctx.projection.working).view(x.shape) if ctx.needs_input_grad[0] else None
        ctx.projection.add_product(x.reshape(-1, x.shape[-1]), upstream)
        return dx, None, *(None for _ in ctx.projection.weights)


class ApartProduct(torch.autograd.Function):
    """One product forward; backward takes the gradients of its parts where they lie, so that none is copied."""

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
            dx = product(part, copy, dx)

        projection.add_product(x.reshape(-1, x.shape[-1]), *parts)

        return dx.view(x.shape), None, *(None for _ in projection.weights)


def project(x: Tensor, projection: Projection) -> Tensor:
    """x ``[..., columns]`` -> ``[..., rows]`` in the working dtype."""
    out: Tensor = ProjectionProduct.apply(x, projection, *projection.weights)  # type: ignore[no-untyped-call]
    return out


def project_apart(x: Tensor, projection: Projection) -> tuple[Tensor, ...]:
    """x ``[..., columns]`` -> ``[..., rows_i]`` for each of the weights."""
    parts: tuple[Tensor, ...] = ApartProduct.apply(x, projection, *projection.weights)  # type: ignore[no-untyped-call]
    return parts

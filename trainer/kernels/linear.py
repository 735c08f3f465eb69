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
from torch import Tensor, nn

from trainer.kernels.cublaslt import product
from trainer.products import add_product_into, product_into


class Projection:
    """Weights ``[rows_i, columns]`` that multiply the same input, as one working matrix.

    Backward adds to the weights' ``.grad`` itself, and autograd sees no gradient. ``uses`` is how often it does in a
    backward pass; ``on_complete``, where set, is called after the last of them.
    """

    def __init__(self, weights: Sequence[nn.Parameter], dtype: torch.dtype, uses: int = 1) -> None:
        self.weights, self.uses = tuple(weights), uses
        self.on_complete: Callable[[Projection], None] | None = None
        self._added = 0
        self.rows = [weight.shape[0] for weight in weights]
        first = weights[0]
        self.working = torch.empty(sum(self.rows), first.shape[1], dtype=dtype, device=first.device)
        self.copies = self.working.split(self.rows)
        self._gradient: Tensor | None = None

    def gradient(self) -> tuple[Tensor, bool]:
        """The float32 sum ``[rows, columns]`` that the weights' ``.grad`` are rows of; True if it holds nothing yet."""
        fresh = all(weight.grad is None for weight in self.weights)
        if self._gradient is None:
            self._gradient = torch.empty(self.working.shape, dtype=torch.float32, device=self.working.device)
        for weight, part in zip(self.weights, self._gradient.split(self.rows), strict=True):
            if weight.grad is None:
                if not fresh:
                    part.zero_()
                weight.grad = part
            elif weight.grad.data_ptr() != part.data_ptr():  # somebody else made it
                part.copy_(weight.grad)
                weight.grad = part
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
        return product(x, projection.working.t()).split(projection.rows, dim=-1)

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

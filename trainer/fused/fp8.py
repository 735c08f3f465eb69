"""float8 matrix products with one scale a tensor, for the blocks' linear layers (tier 4).

Activations and weights are e4m3, gradients are e5m2 (Micikevicius et al. 2022, section 4). Hopper multiplies
float8 only if both operands are contiguous along the summed dimension. So the kernel that rounds a tensor
writes it twice, as it is and transposed.

A weight gets the scale of its own largest value, once a step. Activations and gradients get the scale of the
largest value of the last steps, which the same kernels measure (delayed scaling, as in Transformer Engine).
In the first step they get their own scale. A larger value saturates.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import triton
from torch import Tensor

from jobctl.trainer.fused.fp8_kernels import TILE, WARPS, round_gradient_kernel, round_kernel
from jobctl.trainer.fused.linear import Projection

FORWARD = torch.float8_e4m3fn
BACKWARD = torch.float8_e5m2
HISTORY = 16
"""A scale comes from the largest value of this many steps."""


class Scales:
    """The scales for all places that round activations and gradients.

    From the second step on they are the same on all ranks.
    """

    def __init__(self, device: torch.device, ranks: int = 1) -> None:
        self.device = device
        self.ranks = ranks
        self.formats = list[torch.dtype]()
        self.measuring = True
        self.measured = False
        """The first step uses each tensor's own scale. Later steps use the scales from the steps before."""

    def place(self, dtype: torch.dtype) -> int:
        """Add a place and return its number."""
        self.formats.append(dtype)
        return len(self.formats) - 1

    def allocate(self) -> None:
        """Make the tensors. Call it after the last ``place``."""
        count = len(self.formats)
        # The largest number of each format. A scale maps the largest measured value to it.
        self.largest = torch.tensor([torch.finfo(dtype).max for dtype in self.formats], device=self.device)
        # cuBLAS requires each scale at a multiple of 16 bytes, which are four floats.
        aligned = [torch.ones(count, 4, device=self.device) for _ in range(3)]
        self.amax, self.scale, self.inverse = (numbers[:, 0] for numbers in aligned)
        self.amax.zero_()
        self.history = torch.zeros(HISTORY, count, device=self.device)

    @torch.no_grad()
    def end_step(self) -> None:
        """Compute the scales of the next step from the values of the last steps."""
        # A step with an infinity or a NaN is skipped, and must not spoil the scales of the next ones.
        latest = torch.where(self.amax.isfinite(), self.amax, 0.0)
        # A checkpoint holds one history for all ranks, and any number of ranks may resume with it.
        if self.ranks > 1:
            dist.all_reduce(latest, dist.ReduceOp.MAX)

        self.history.copy_(self.history.roll(1, 0))
        self.history[0] = latest
        self.take()
        self.amax.zero_()

        # A step that only allocates the optimiser's state measures nothing, and is not the first step.
        self.measuring = not self.measured

    def forget_evaluation(self) -> None:
        """Drop the values measured since the last step.

        A checkpoint holds the history alone. Without this, the scales after an evaluation would depend on
        whether the run has resumed in between.
        """
        self.amax.zero_()

    def take(self) -> None:
        """Compute the scales from the history."""
        seen = self.history.amax(0)
        # A place that has measured nothing but zeros keeps its scale, because 1/0 is none.
        self.scale.copy_(torch.where(seen > 0, self.largest / seen, self.scale))
        self.inverse.copy_(1.0 / self.scale)

    @torch.no_grad()
    def resume(self) -> None:
        """Continue with the history of a checkpoint. If it is empty, the next step measures."""
        if bool(self.history.any()):
            self.take()
            self.measured = True
            self.measuring = False

    def measure(self, place: int, value: Tensor) -> None:
        """Set the scale of a place from this tensor. This is only for the first step."""
        self.measured = True
        # The lower bound gives a tensor of zeros a finite scale, too.
        amax = value.abs().amax().float().clamp(min=1e-12)
        self.scale[place] = self.largest[place] / amax
        self.inverse[place] = amax / self.largest[place]

    def round(self, x: Tensor, place: int, mode: int = 0) -> tuple[Tensor, Tensor]:
        """Round x ``[N, C]`` and return ``[N, C]`` and ``[C, N]``.

        In mode 1 round SwiGLU of x ``[N, 2C]``, in mode 2 GELU of x.
        """
        rows = x.shape[0]
        columns = x.shape[1] // (2 if mode == 1 else 1)
        # Measured before the kernel runs, whose own maximum is known only after it has rounded.
        if self.measuring:
            value = x
            if mode == 1:
                value = torch.nn.functional.silu(x[:, :columns]) * x[:, columns:]

            self.measure(place, value)

        out, transposed = self.pair(rows, columns, place)
        grid = (triton.cdiv(rows, TILE), triton.cdiv(columns, TILE))
        round_kernel[grid](
            x,
            out,
            transposed,
            self.amax[place],
            self.scale[place],
            torch.finfo(self.formats[place]).max,
            rows,
            columns,
            MODE=mode,
            TILE=TILE,
            num_warps=WARPS,
        )

        return out, transposed

    def round_gradient(self, x: Tensor, dout: Tensor, place: int, gated: bool) -> tuple[Tensor, Tensor]:
        """Return the rounded gradient by the input x of SwiGLU or GELU, from the gradient by the output."""
        rows, columns = dout.shape
        if self.measuring:
            # |silu'| and |GELU'| are at most 1.13. SwiGLU's gradient has the other half of x as a further
            # factor.
            factor = x.abs().amax().clamp(min=1.0) if gated else 1.13
            self.measure(place, dout.abs().amax() * factor)

        out, transposed = self.pair(rows, x.shape[1], place)
        grid = (triton.cdiv(rows, TILE), triton.cdiv(columns, TILE))
        round_gradient_kernel[grid](
            x,
            dout,
            out,
            transposed,
            self.amax[place],
            self.scale[place],
            torch.finfo(self.formats[place]).max,
            rows,
            columns,
            GATED=gated,
            TILE=TILE,
            num_warps=WARPS,
        )

        return out, transposed

    def pair(self, rows: int, columns: int, place: int) -> tuple[Tensor, Tensor]:
        dtype = self.formats[place]
        return (
            torch.empty(rows, columns, dtype=dtype, device=self.device),
            torch.empty(columns, rows, dtype=dtype, device=self.device),
        )


class Fp8Projection:
    """A projection's weights in float8, as they are and transposed, and the places of its input and gradient."""

    def __init__(self, projection: Projection, scales: Scales) -> None:
        self.projection = projection
        self.scales = scales
        self.input = scales.place(FORWARD)
        self.gradient = scales.place(BACKWARD)
        rows, columns = projection.working.shape
        device = projection.working.device
        self.weight = torch.empty(rows, columns, dtype=FORWARD, device=device)
        self.transposed = torch.empty(columns, rows, dtype=FORWARD, device=device)
        self.scale, self.inverse, self.amax = (torch.ones((), device=device) for _ in range(3))

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the working copy to float8."""
        largest = torch.finfo(FORWARD).max
        working = self.projection.working
        # As a norm: abs() would write a copy of the whole matrix first.
        amax = torch.linalg.vector_norm(working, float("inf")).float().clamp(min=1e-12)
        self.scale.copy_(largest / amax)
        self.inverse.copy_(amax / largest)
        rows, columns = working.shape
        grid = (triton.cdiv(rows, TILE), triton.cdiv(columns, TILE))
        round_kernel[grid](
            working,
            self.weight,
            self.transposed,
            self.amax,
            self.scale,
            largest,
            rows,
            columns,
            MODE=0,
            TILE=TILE,
            num_warps=WARPS,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map rounded x ``[N, columns]`` to ``[N, rows]``."""
        return product(x, self.weight.t(), self.scales.inverse[self.input], self.inverse, fast=True)

    def backward(self, g: Tensor) -> Tensor:
        """Map the rounded gradient by the output to the gradient by the input."""
        return product(g, self.transposed.t(), self.scales.inverse[self.gradient], self.inverse, fast=True)

    def add_weight_gradient(self, g_transposed: Tensor, x_transposed: Tensor) -> None:
        """Add the weights' gradient in float32."""
        scales = self.scales.inverse

        # Without the fast accumulators: this sum goes over all tokens, and their short ones would lose too
        # much.
        total = product(
            g_transposed,
            x_transposed.t(),
            scales[self.gradient],
            scales[self.input],
            torch.float32,
            fast=False,
        )

        # The first micro-step overwrites the sum, so no kernel has to fill it with zeros before.
        gradient, fresh = self.projection.gradient()
        _ = gradient.copy_(total) if fresh else gradient.add_(total)
        # Only now: this call may send the gradient to the other ranks.
        self.projection.added()


def product(
    left: Tensor,
    right: Tensor,
    left_scale: Tensor,
    right_scale: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    fast: bool = True,
) -> Tensor:
    """Return left @ right with the scales removed.

    ``fast`` sums in the shorter accumulators of the tensor cores.
    """
    # cuBLAS multiplies by these scales, so they are the inverses of those that rounded.
    return torch._scaled_mm(
        left, right, scale_a=left_scale, scale_b=right_scale, out_dtype=dtype, use_fast_accum=fast
    )


class Fp8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Fp8Projection, *weights: Tensor) -> Tensor:
        rounded, transposed = layer.scales.round(x.reshape(-1, x.shape[-1]), layer.input)
        # Only the transposed one is kept: the product of the weights' gradient sums over the tokens.
        ctx.save_for_backward(transposed)
        ctx.layer = layer
        ctx.shape = x.shape
        return layer.forward(rounded).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        (x_transposed,) = ctx.saved_tensors
        layer: Fp8Projection = ctx.layer
        g, g_transposed = layer.scales.round(upstream.reshape(-1, upstream.shape[-1]), layer.gradient)
        # The weights' gradient comes first: ranks may exchange it while this pass continues.
        layer.add_weight_gradient(g_transposed, x_transposed)
        return layer.backward(g).view(ctx.shape), None, *(None for _ in layer.projection.weights)


class Fp8FeedForward(torch.autograd.Function):
    """down(act(up(x))). The result of the activation and its gradient are written in float8 at once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Fp8Projection, down: Fp8Projection, gated: bool, *weights: Tensor
    ) -> Tensor:
        rounded, x_transposed = up.scales.round(x.reshape(-1, x.shape[-1]), up.input)
        inner = up.forward(rounded)
        hidden, hidden_transposed = down.scales.round(inner, down.input, mode=1 if gated else 2)
        # ``inner`` stays in bfloat16, because the activation's gradient is computed from it.
        ctx.save_for_backward(x_transposed, inner, hidden_transposed)
        ctx.up = up
        ctx.down = down
        ctx.gated = gated
        ctx.shape = x.shape

        return down.forward(hidden).view(x.shape)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        x_transposed, inner, hidden_transposed = ctx.saved_tensors
        up = ctx.up
        down = ctx.down
        g, g_transposed = down.scales.round(upstream.reshape(-1, upstream.shape[-1]), down.gradient)
        # As above: the weights' gradient comes first, because ranks may exchange it at once.
        down.add_weight_gradient(g_transposed, hidden_transposed)
        dhidden = down.backward(g)
        g, g_transposed = up.scales.round_gradient(inner, dhidden, up.gradient, ctx.gated)
        # Freed before the next product, which makes a tensor of the same size.
        del dhidden
        up.add_weight_gradient(g_transposed, x_transposed)
        weights = (*up.projection.weights, *down.projection.weights)

        return up.backward(g).view(ctx.shape), None, None, None, *(None for _ in weights)


def fp8_project(x: Tensor, layer: Fp8Projection) -> Tensor:
    """Map x ``[..., columns]`` to ``[..., rows]``."""
    # The weights are arguments so that autograd calls backward even if x needs no gradient.
    out: Tensor = Fp8Product.apply(x, layer, *layer.projection.weights)  # type: ignore[no-untyped-call]
    return out


def fp8_feed_forward(x: Tensor, up: Fp8Projection, down: Fp8Projection, gated: bool) -> Tensor:
    """Return the feed-forward layer of x ``[..., hidden]``.

    If it is gated, the first half of ``up`` is the gate.
    """
    out: Tensor = Fp8FeedForward.apply(  # type: ignore[no-untyped-call]
        x, up, down, gated, *up.projection.weights, *down.projection.weights
    )
    return out

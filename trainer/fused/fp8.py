"""float8 matrix products with one scale a tensor, for the blocks' linear layers (tier 4).

Activations and weights are e4m3, gradients e5m2 (Micikevicius et al. 2022, section 4). Hopper multiplies float8 only
where both operands lie along the summed dimension, so a tensor is written twice by the kernel that rounds it, as it
is and transposed. Weights get the scale of their own largest value once a step. Activations and gradients get that of
the largest value of the last steps, measured by the same kernels (delayed scaling, as in Transformer Engine), and in
the first step their own; what exceeds it saturates.
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
"""Steps over whose largest value a scale is taken."""


class Scales:
    """The scales of all places where activations and gradients are rounded; from the second step on all ranks' same."""

    def __init__(self, device: torch.device, ranks: int = 1) -> None:
        self.device = device
        self.ranks = ranks
        self.formats = list[torch.dtype]()
        self.measuring = True
        self.measured = False
        """The first step takes each tensor's own scale; those after it the scales that the ones before left."""

    def place(self, dtype: torch.dtype) -> int:
        """A new place; its number."""
        self.formats.append(dtype)
        return len(self.formats) - 1

    def allocate(self) -> None:
        """After the last ``place``."""
        count = len(self.formats)
        self.largest = torch.tensor([torch.finfo(dtype).max for dtype in self.formats], device=self.device)
        aligned = [
            torch.ones(count, 4, device=self.device) for _ in range(3)
        ]  # cuBLAS wants scales at 16 bytes
        self.amax, self.scale, self.inverse = (numbers[:, 0] for numbers in aligned)
        self.amax.zero_()
        self.history = torch.zeros(HISTORY, count, device=self.device)

    @torch.no_grad()
    def end_step(self) -> None:
        """Take the scales of the next step from what the last ones measured."""
        latest = torch.where(self.amax.isfinite(), self.amax, 0.0)
        if self.ranks > 1:  # a checkpoint holds one history, and any number of ranks may go on with it
            dist.all_reduce(latest, dist.ReduceOp.MAX)

        self.history.copy_(self.history.roll(1, 0))
        self.history[0] = latest
        self.take()
        self.amax.zero_()
        self.measuring = (
            not self.measured
        )  # a step that only allocates the optimiser's state measures nothing

    def take(self) -> None:
        """The scales that the history asks for."""
        seen = self.history.amax(0)
        self.scale.copy_(torch.where(seen > 0, self.largest / seen, self.scale))
        self.inverse.copy_(1.0 / self.scale)

    @torch.no_grad()
    def resume(self) -> None:
        """Go on with the history that a checkpoint has filled; where it had none, the next step measures."""
        if bool(self.history.any()):
            self.take()
            self.measured = True
            self.measuring = False

    def measure(self, place: int, value: Tensor) -> None:
        """In the first step: the scale of this very tensor."""
        self.measured = True
        amax = value.abs().amax().float().clamp(min=1e-12)
        self.scale[place] = self.largest[place] / amax
        self.inverse[place] = amax / self.largest[place]

    def round(self, x: Tensor, place: int, mode: int = 0) -> tuple[Tensor, Tensor]:
        """x ``[N, C]`` (mode 1: SwiGLU of x ``[N, 2C]``; 2: GELU of x) rounded: ``[N, C]`` and ``[C, N]``."""
        rows = x.shape[0]
        columns = x.shape[1] // (2 if mode == 1 else 1)
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
        """The rounded gradient to SwiGLU's or GELU's input x, from that to its output."""
        rows, columns = dout.shape
        if self.measuring:  # |SwiGLU'| and |GELU'| are at most 1.13 but for the other factor
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
    """A projection's weights in float8, both ways, and the places of its input and of its output's gradient."""

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
        """Round the working copy."""
        largest = torch.finfo(FORWARD).max
        working = self.projection.working
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
        """Rounded x ``[N, columns]`` -> ``[N, rows]``."""
        return product(x, self.weight.t(), self.scales.inverse[self.input], self.inverse, fast=True)

    def backward(self, g: Tensor) -> Tensor:
        """Rounded gradient to the output -> gradient to the input."""
        return product(g, self.transposed.t(), self.scales.inverse[self.gradient], self.inverse, fast=True)

    def add_weight_gradient(self, g_transposed: Tensor, x_transposed: Tensor) -> None:
        """Add the weights' gradient in float32."""
        scales = self.scales.inverse
        total = product(
            g_transposed,
            x_transposed.t(),
            scales[self.gradient],
            scales[self.input],
            torch.float32,
            fast=False,
        )

        gradient, fresh = self.projection.gradient()
        _ = gradient.copy_(total) if fresh else gradient.add_(total)
        self.projection.added()


def product(
    left: Tensor,
    right: Tensor,
    left_scale: Tensor,
    right_scale: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    fast: bool = True,
) -> Tensor:
    """left @ right, unscaled; ``fast`` sums in the tensor cores' own, shorter accumulators."""
    return torch._scaled_mm(
        left, right, scale_a=left_scale, scale_b=right_scale, out_dtype=dtype, use_fast_accum=fast
    )


class Fp8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Fp8Projection, *weights: Tensor) -> Tensor:
        rounded, transposed = layer.scales.round(x.reshape(-1, x.shape[-1]), layer.input)
        ctx.save_for_backward(transposed)
        ctx.layer = layer
        ctx.shape = x.shape
        return layer.forward(rounded).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        (x_transposed,) = ctx.saved_tensors
        layer: Fp8Projection = ctx.layer
        g, g_transposed = layer.scales.round(upstream.reshape(-1, upstream.shape[-1]), layer.gradient)
        layer.add_weight_gradient(g_transposed, x_transposed)
        return layer.backward(g).view(ctx.shape), None, *(None for _ in layer.projection.weights)


class Fp8FeedForward(torch.autograd.Function):
    """down(act(up(x))): the activation's result and its gradient are made in float8 straight away."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Fp8Projection, down: Fp8Projection, gated: bool, *weights: Tensor
    ) -> Tensor:
        rounded, x_transposed = up.scales.round(x.reshape(-1, x.shape[-1]), up.input)
        inner = up.forward(rounded)
        hidden, hidden_transposed = down.scales.round(inner, down.input, mode=1 if gated else 2)
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
        down.add_weight_gradient(g_transposed, hidden_transposed)
        dhidden = down.backward(g)
        g, g_transposed = up.scales.round_gradient(inner, dhidden, up.gradient, ctx.gated)
        del dhidden
        up.add_weight_gradient(g_transposed, x_transposed)
        weights = (*up.projection.weights, *down.projection.weights)

        return up.backward(g).view(ctx.shape), None, None, None, *(None for _ in weights)


def fp8_project(x: Tensor, layer: Fp8Projection) -> Tensor:
    """x ``[..., columns]`` -> ``[..., rows]``."""
    out: Tensor = Fp8Product.apply(x, layer, *layer.projection.weights)  # type: ignore[no-untyped-call]
    return out


def fp8_feed_forward(x: Tensor, up: Fp8Projection, down: Fp8Projection, gated: bool) -> Tensor:
    """The feed-forward layer of x ``[..., hidden]``; the first half of ``up`` is the gate, if it is gated."""
    out: Tensor = Fp8FeedForward.apply(  # type: ignore[no-untyped-call]
        x, up, down, gated, *up.projection.weights, *down.projection.weights
    )
    return out

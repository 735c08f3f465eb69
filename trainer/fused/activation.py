"""SwiGLU and GELU in Triton, forward and backward, each in one pass over memory and in float32.

SwiGLU: Shazeer 2020, equation 6. GELU in its tanh form: Hendrycks and Gimpel 2016, section 2.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from jobctl.trainer.fused.cublaslt import gelu_gradient_product, product
from jobctl.trainer.fused.linear import Projection

COLUMNS = 1024
ROWS = 4
"""The tile of one program."""


def plain_swiglu(gate_up: Tensor) -> Tensor:
    """Return the reference: silu(gate) · up of ``[..., 2F]``. The first half is the gate."""
    gate, up = gate_up.to(torch.promote_types(gate_up.dtype, torch.float32)).chunk(2, dim=-1)
    return (F.silu(gate) * up).to(gate_up.dtype)


def plain_gelu(x: Tensor) -> Tensor:
    """Return the reference: GELU in its tanh form."""
    return F.gelu(x.to(torch.promote_types(x.dtype, torch.float32)), approximate="tanh").to(x.dtype)


@triton.jit
def swiglu_forward_kernel(gate_up_ptr, out_ptr, rows, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    # 64 bits: all rows together may have more than 2**31 elements.
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < rows) & (column < width)
    gate = tl.load(gate_up_ptr + row * (2 * width) + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * (2 * width) + width + column, mask=inside, other=0.0).to(tl.float32)
    out = gate * tl.sigmoid(gate) * up
    tl.store(out_ptr + row * width + column, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def swiglu_gradients(gate, up, dout):
    """Return the gradients by ``gate`` and by ``up`` of silu(gate) · up."""
    sigmoid = tl.sigmoid(gate)
    # The derivative of silu(x) = x · sigmoid(x).
    dgate = dout * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
    return dgate, dout * gate * sigmoid


@triton.jit
def swiglu_backward_kernel(
    gate_up_ptr,
    dout_ptr,
    dgate_up_ptr,
    out_ptr,
    rows,
    width,
    AGAIN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < rows) & (column < width)
    gate = tl.load(gate_up_ptr + row * (2 * width) + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * (2 * width) + width + column, mask=inside, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + row * width + column, mask=inside, other=0.0).to(tl.float32)
    dgate, dup = swiglu_gradients(gate, up, dout)
    element = dgate_up_ptr.dtype.element_ty
    tl.store(dgate_up_ptr + row * (2 * width) + column, dgate.to(element), mask=inside)
    tl.store(dgate_up_ptr + row * (2 * width) + width + column, dup.to(element), mask=inside)

    # The result of forward costs only its own writing here, since its inputs are loaded anyway.
    if AGAIN:
        tl.store(out_ptr + row * width + column, (gate * tl.sigmoid(gate) * up).to(element), mask=inside)


@triton.jit
def tanh(x):
    # Triton's language itself has no tanh. This form does not overflow for large x.
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def gelu(x):
    """Return GELU in its tanh form. 0.797… is sqrt(2/π), and 0.044715 the constant of this form."""
    return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@triton.jit
def gelu_gradient_of(x, dout):
    """Return the gradient by x of ``gelu``, in whose tanh form the inner polynomial has a derivative, too."""
    t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
    inner = 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * x * x)
    return dout * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner)


@triton.jit
def gelu_forward_kernel(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    # 64 bits: the activations of a batch may have more than 2**31 elements.
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, gelu(x).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gelu_backward_kernel(x_ptr, dout_ptr, dx_ptr, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx_ptr + at, gelu_gradient_of(x, dout).to(dx_ptr.dtype.element_ty), mask=inside)


def swiglu_forward(gate_up: Tensor) -> Tensor:
    """Return silu(gate) · up, outside autograd."""
    width = gate_up.shape[-1] // 2
    rows = gate_up.numel() // (2 * width)
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(width, COLUMNS))
    swiglu_forward_kernel[grid](gate_up, out, rows, width, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=8)

    return out


def swiglu_backward(gate_up: Tensor, dout: Tensor, again: bool) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of ``gate_up``; with ``again`` also silu(gate) · up, the bits of ``swiglu_forward``."""
    width = gate_up.shape[-1] // 2
    rows = gate_up.numel() // (2 * width)
    dgate_up = torch.empty_like(gate_up)
    out = gate_up.new_empty(*gate_up.shape[:-1], width) if again else None
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(width, COLUMNS))
    swiglu_backward_kernel[grid](
        gate_up,
        dout.contiguous(),
        dgate_up,
        dgate_up if out is None else out,
        rows,
        width,
        AGAIN=again,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        num_warps=8,
    )

    return dgate_up, out


class SwigluProject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, projection: Projection, keep: bool, *weights: Tensor) -> Tensor:
        hidden = swiglu_forward(gate_up)
        # The input of the activation is needed for its gradient, and its result only for the weights'.
        ctx.save_for_backward(gate_up, hidden if keep else None)
        ctx.projection = projection
        return product(hidden, projection.working.t())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        gate_up, kept = ctx.saved_tensors
        projection: Projection = ctx.projection
        upstream = upstream.reshape(-1, upstream.shape[-1])
        width = gate_up.shape[-1] // 2
        dhidden = product(upstream, projection.working).view(*gate_up.shape[:-1], width)

        # The weights' gradient comes last: it needs the result of forward, which this kernel may make again.
        dgate_up, made = swiglu_backward(gate_up, dhidden, again=kept is None)
        hidden = made if kept is None else kept
        assert hidden is not None
        # The product adds to the weights' sum in float32, so autograd gets no gradient for them.
        projection.add_product(hidden.reshape(-1, width), upstream)

        return dgate_up, None, None, *(None for _ in projection.weights)


def gelu_forward(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    block = ROWS * COLUMNS
    gelu_forward_kernel[(triton.cdiv(x.numel(), block),)](x, out, x.numel(), BLOCK=block, num_warps=8)
    return out


def gelu_backward(x: Tensor, dout: Tensor) -> Tensor:
    dx = torch.empty_like(x)
    block = ROWS * COLUMNS
    # The gradient may have other strides, and the kernel reads each tensor as one row of numbers.
    gelu_backward_kernel[(triton.cdiv(x.numel(), block),)](
        x, dout.contiguous(), dx, x.numel(), BLOCK=block, num_warps=8
    )
    return dx


class GeluProject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection, keep: bool, *weights: Tensor) -> Tensor:
        hidden = gelu_forward(x)
        ctx.save_for_backward(x, hidden if keep else None)
        ctx.projection = projection
        # The weights are arguments so that autograd calls backward even if x needs no gradient.
        return product(hidden, projection.working.t())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        x, hidden = ctx.saved_tensors
        # Computed again if it was not kept: one pass over memory is cheaper than its space.
        hidden = gelu_forward(x) if hidden is None else hidden
        projection: Projection = ctx.projection
        upstream = upstream.reshape(-1, upstream.shape[-1])
        projection.add_product(hidden.reshape(-1, hidden.shape[-1]), upstream)
        dx = gelu_gradient(upstream, projection.working, x)

        return dx, None, None, *(None for _ in projection.weights)


def gelu_gradient(upstream: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """Return (upstream ``[N, rows]`` @ weight ``[rows, columns]``) · GELU'(x), in x's shape ``[..., columns]``."""
    # cuBLASLt applies the gradient at the end of its product, which saves a pass over memory.
    dx = gelu_gradient_product(upstream.contiguous(), weight, x)
    return gelu_backward(x, product(upstream, weight).view(x.shape)) if dx is None else dx


def swiglu_project(gate_up: Tensor, projection: Projection, keep: bool = True) -> Tensor:
    """Apply silu(gate) · up to contiguous ``[..., 2F]``, and then the projection: ``[..., rows]``.

    The first half is the gate. Without ``keep`` backward computes the activation again, on its way.
    """
    out: Tensor = SwigluProject.apply(gate_up, projection, keep, *projection.weights)  # type: ignore[no-untyped-call]
    return out


def gelu_project(x: Tensor, projection: Projection, keep: bool = True) -> Tensor:
    """Apply GELU in its tanh form to contiguous x ``[..., columns]``, and then the projection: ``[..., rows]``.

    Without ``keep`` backward computes the GELU again.
    """
    out: Tensor = GeluProject.apply(x, projection, keep, *projection.weights)  # type: ignore[no-untyped-call]
    return out

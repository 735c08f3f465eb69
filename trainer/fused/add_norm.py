"""Residual addition and normalisation in one pass over memory, forward and backward, in Triton.

``AddNorm`` computes x' = x + delta and y = norm(x') · weight. One program does a row. The sums are in float32
for any inputs. RMSNorm: Zhang and Sennrich 2019. LayerNorm: Ba et al. 2016, with a gain and without a bias.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

Kind = Literal["rms", "layer"]
PROGRAMS = 2
"""Programs of the backward kernel on each multiprocessor."""


def plain_add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, kind: Kind
) -> tuple[Tensor, Tensor]:
    """Return the reference in plain PyTorch, in the precision of its inputs and at least in float32."""
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x if delta is None else (x.to(wide) + delta.to(wide)).to(x.dtype)
    centred = total.to(wide)
    if kind == "layer":
        centred = centred - centred.mean(-1, keepdim=True)

    scaled = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)

    return total, (scaled * weight.to(wide)).to(x.dtype)


@triton.jit
def forward_kernel(
    x_ptr,
    delta_ptr,
    weight_ptr,
    total_ptr,
    y_ptr,
    mean_ptr,
    rstd_ptr,
    size,
    eps,
    HAS_DELTA: tl.constexpr,
    CENTRE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < size
    x = tl.load(x_ptr + row * size + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_DELTA:
        x += tl.load(delta_ptr + row * size + columns, mask=inside, other=0.0).to(tl.float32)
        total = x.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + row * size + columns, total, mask=inside)
        # The norm is that of the rounded sum, because backward and the next block see only that.
        x = total.to(tl.float32)

    if CENTRE:
        mean = tl.sum(x, 0) / size
        tl.store(mean_ptr + row, mean)
        # Columns beyond the row must stay 0, or they would add mean² to the variance.
        x = tl.where(inside, x - mean, 0.0)

    # Columns beyond the row are 0 and add nothing. The divisor is the true size.
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, 0) / size + eps)
    tl.store(rstd_ptr + row, rstd)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + row * size + columns, (x * rstd * weight).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    dy_ptr,
    dtotal_ptr,
    total_ptr,
    weight_ptr,
    mean_ptr,
    rstd_ptr,
    dx_ptr,
    partial_ptr,
    rows,
    size,
    HAS_DTOTAL: tl.constexpr,
    CENTRE: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Go row by row. The loads run STAGES - 1 rows ahead, so that no sum over a row waits for memory."""
    columns = tl.arange(0, BLOCK)
    inside = columns < size
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros([BLOCK], dtype=tl.float32)

    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=STAGES):
        at = tl.cast(row, tl.int64) * size + columns
        x = tl.load(total_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if HAS_DTOTAL:
            dtotal = tl.load(dtotal_ptr + at, mask=inside, other=0.0).to(tl.float32)

        rstd = tl.load(rstd_ptr + row)
        if CENTRE:
            x = tl.where(inside, x - tl.load(mean_ptr + row), 0.0)

        x *= rstd
        # Before dy is multiplied by the gain, which the gain's own gradient does not contain.
        dweight += dy * x
        dy *= weight
        dx = dy - x * (tl.sum(dy * x, 0) / size)
        if CENTRE:
            # The mean of a LayerNorm depends on every column, so each gets a share of all gradients.
            dx -= tl.sum(dy, 0) / size

        dx *= rstd
        if HAS_DTOTAL:
            dx += dtotal

        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)

    # One row of sums for each program. They are added in a fixed order later, unlike atomic additions.
    tl.store(partial_ptr + tl.program_id(0) * size + columns, dweight, mask=inside)


def programs(rows: int, device: torch.device, per_processor: int) -> int:
    """Return the number of programs: only a few on each multiprocessor, so that each sums many rows' gains."""
    if device.type != "cuda":
        return min(rows, 3)
    return min(rows, per_processor * torch.cuda.get_device_properties(device).multi_processor_count)


def forward(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, kind: Kind
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x + delta, its norm, and the mean and 1 / deviation of each row. For "rms" there is no mean."""
    size = x.shape[-1]
    rows = x.numel() // size
    # The kernel takes the rows to lie behind each other.
    x = x.contiguous()
    delta = delta.contiguous() if delta is not None else None
    # Without a delta the sum is x itself, and is neither written nor read again.
    total = torch.empty_like(x) if delta is not None else x
    y = torch.empty_like(x)
    rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
    # The kernel needs some pointer, and does not use it without CENTRE.
    mean = torch.empty_like(rstd) if kind == "layer" else rstd
    block = triton.next_power_of_2(size)
    forward_kernel[(rows,)](
        x,
        x if delta is None else delta,
        weight,
        total,
        y,
        mean,
        rstd,
        size,
        eps,
        HAS_DELTA=delta is not None,
        CENTRE=kind == "layer",
        BLOCK=block,
        num_warps=4 if block <= 2048 else 8,
    )

    return total, y, mean, rstd


def normed(x: Tensor, weight: Tensor, eps: float, kind: Kind) -> Tensor:
    """Return the norm of x without a delta, outside autograd. The bits are those of the forward pass."""
    return forward(x, None, weight, eps, kind)[1]


class AddNorm(torch.autograd.Function):
    """Map x ``[..., size]``, delta (or None) and weight ``[size]`` to x + delta and its norm, both in x's dtype."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, kind: Kind
    ) -> tuple[Tensor, Tensor]:
        total, y, mean, rstd = forward(x, delta, weight, eps, kind)
        ctx.save_for_backward(total, weight, mean, rstd)
        ctx.kind = kind
        ctx.added = delta is not None
        # An unused output then has the gradient None, and no tensor of zeros has to be read.
        ctx.set_materialize_grads(False)
        # Without a delta the sum is the input itself, which must not be returned as it is.
        if delta is None:
            total = total.view_as(total)

        return total, y

    @staticmethod
    def backward(ctx: Any, dtotal: Tensor | None, dy: Tensor) -> tuple[Tensor | None, ...]:
        total, weight, mean, rstd = ctx.saved_tensors
        size = total.shape[-1]
        rows = total.numel() // size
        dy = dy.contiguous()
        dtotal = dtotal.contiguous() if dtotal is not None else None
        dx = torch.empty_like(total)
        block = triton.next_power_of_2(size)
        wide = block > 4096
        count = programs(rows, total.device, PROGRAMS)
        partial = torch.empty(count, size, dtype=torch.float32, device=total.device)
        backward_kernel[(count,)](
            dy,
            dy if dtotal is None else dtotal,
            total,
            weight,
            mean,
            rstd,
            dx,
            partial,
            rows,
            size,
            HAS_DTOTAL=dtotal is not None,
            CENTRE=ctx.kind == "layer",
            BLOCK=block,
            STAGES=2 if wide else 4,
            num_warps=8 if wide else 4,
        )

        # The two addends of a sum have the same gradient.
        return dx, dx if ctx.added else None, partial.sum(0).to(weight.dtype), None, None


def add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, kind: Kind = "rms"
) -> tuple[Tensor, Tensor]:
    """Return x ``[..., size]`` plus ``delta`` (None: nothing), and its norm, both in x's dtype."""
    result: tuple[Tensor, Tensor] = AddNorm.apply(x, delta, weight, eps, kind)  # type: ignore[no-untyped-call]
    return result

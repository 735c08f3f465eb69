"""AdamW in one pass: each state read and written once, clipping applied on the way, the working copy left behind.

Loshchilov and Hutter 2019, algorithm 2, in the form and with the state of ``torch.optim.AdamW``.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


@triton.jit
def adamw_kernel(
    weight_ptr,
    grad_ptr,
    first_ptr,
    second_ptr,
    copy_ptr,
    step_ptr,
    factor_ptr,
    skipped_ptr,
    rate,
    beta1,
    beta2,
    log_beta1,
    log_beta2,
    eps,
    decay,
    size,
    HAS_COPY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    if tl.load(skipped_ptr) == 0.0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        step = tl.load(step_ptr)
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32) * tl.load(factor_ptr)
        weight = tl.load(weight_ptr + at, mask=inside, other=0.0) * (1.0 - rate * decay)
        first = tl.load(first_ptr + at, mask=inside, other=0.0)
        second = tl.load(second_ptr + at, mask=inside, other=0.0)
        first += (1.0 - beta1) * (grad - first)
        second = beta2 * second + (1.0 - beta2) * grad * grad
        correction1 = 1.0 - tl.exp(step * log_beta1)
        correction2 = 1.0 - tl.exp(step * log_beta2)
        weight -= (rate / correction1) * first / (tl.sqrt(second / correction2) + eps)
        tl.store(weight_ptr + at, weight, mask=inside)
        tl.store(first_ptr + at, first, mask=inside)
        tl.store(second_ptr + at, second, mask=inside)
        if HAS_COPY:
            tl.store(copy_ptr + at, weight.to(copy_ptr.dtype.element_ty), mask=inside)


def update(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    step: Tensor,
    *,
    copy: Tensor | None,
    factor: Tensor,
    skipped: Tensor,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    """Update a contiguous float32 weight, its moments and its working ``copy``, all of one size, in place.

    ``step`` (float32 scalar) counts this update already. ``factor`` (float32 scalar) multiplies the
    gradient; ``skipped`` (float32 scalar) other than 0 leaves everything as it is.
    """
    beta1, beta2 = betas
    grid = (triton.cdiv(weight.numel(), BLOCK),)
    adamw_kernel[grid](
        weight,
        gradient,
        first,
        second,
        weight if copy is None else copy,
        step,
        factor,
        skipped,
        float(rate),
        beta1,
        beta2,
        math.log(beta1),
        math.log(beta2),
        eps,
        decay,
        weight.numel(),
        HAS_COPY=copy is not None,
        BLOCK=BLOCK,
        num_warps=8,
    )

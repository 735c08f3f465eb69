"""AdamW in one pass over memory, with clipping and the new working copy. Each state is read and written once.

It is algorithm 2 of Loshchilov and Hutter 2019, in the form and with the state of ``torch.optim.AdamW``.
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
    # Read on the device: the host does not know yet if the step is skipped, and does not wait for it.
    if tl.load(skipped_ptr) == 0.0:
        # 64 bits: a matrix may have more than 2**31 elements.
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        step = tl.load(step_ptr)
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32) * tl.load(factor_ptr)
        # The decay is decoupled: it acts on the weight and not on the moments.
        weight = tl.load(weight_ptr + at, mask=inside, other=0.0) * (1.0 - rate * decay)
        first = tl.load(first_ptr + at, mask=inside, other=0.0)
        second = tl.load(second_ptr + at, mask=inside, other=0.0)
        # In the form of torch's lerp, so that both round alike.
        first += (1.0 - beta1) * (grad - first)
        second = beta2 * second + (1.0 - beta2) * grad * grad
        # 1 - beta^step. Both moments begin at 0, and the correction takes that bias away.
        # A power of beta as exp(step · log(beta)): Triton's language itself has no power.
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

    ``step`` (float32 scalar) counts this update already. ``factor`` (float32 scalar) multiplies the gradient.
    If ``skipped`` (float32 scalar) is not 0, everything stays as it is.
    """
    beta1, beta2 = betas
    grid = (triton.cdiv(weight.numel(), BLOCK),)
    adamw_kernel[grid](
        weight,
        gradient,
        first,
        second,
        # The kernel needs some pointer, and does not use it without HAS_COPY.
        weight if copy is None else copy,
        step,
        factor,
        skipped,
        float(rate),
        beta1,
        beta2,
        # In float64 on the host: in float32 a beta close to 1 loses digits before its logarithm is taken.
        math.log(beta1),
        math.log(beta2),
        eps,
        decay,
        weight.numel(),
        HAS_COPY=copy is not None,
        BLOCK=BLOCK,
        num_warps=8,
    )

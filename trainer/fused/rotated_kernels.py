"""The kernels that rotate queries and keys, in Triton.

A tile holds one half of a head for some tokens, because the rotation pairs value i with value i + D/2.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def forward_kernel(
    qkv_ptr,
    q_ptr,
    k_ptr,
    cos_ptr,
    sin_ptr,
    q_weight_ptr,
    k_weight_ptr,
    tokens,
    length,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    NORM: tl.constexpr,
    TOKENS: tl.constexpr,
):
    head = tl.program_id(1)
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS))[:, None]
    column = tl.arange(0, HALF)[None, :]
    inside = token < tokens
    source = qkv_ptr + token.to(tl.int64) * ((HEADS + 2 * KV_HEADS) * 2 * HALF) + head * (2 * HALF) + column
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        weight_ptr = q_weight_ptr if head < HEADS else k_weight_ptr
        squares = tl.sum(first * first, 1) + tl.sum(second * second, 1)
        rstd = (1.0 / tl.sqrt(squares / (2 * HALF) + eps))[:, None]
        first *= rstd * tl.load(weight_ptr + column).to(tl.float32)
        second *= rstd * tl.load(weight_ptr + HALF + column).to(tl.float32)

    position = token % length
    cos = tl.load(cos_ptr + position * HALF + column)
    sin = tl.load(sin_ptr + position * HALF + column)
    if head < HEADS:
        target = q_ptr + (token.to(tl.int64) * HEADS + head) * (2 * HALF) + column
    else:
        target = k_ptr + (token.to(tl.int64) * KV_HEADS + head - HEADS) * (2 * HALF) + column

    element = q_ptr.dtype.element_ty
    tl.store(target, (first * cos - second * sin).to(element), mask=inside)
    tl.store(target + HALF, (second * cos + first * sin).to(element), mask=inside)


@triton.jit
def backward_head(
    source,
    x_source,
    target,
    cos,
    sin,
    inside,
    eps,
    gain_first,
    gain_second,
    dgain_first,
    dgain_second,
    HALF: tl.constexpr,
    NORM: tl.constexpr,
):
    """Rotate a head's gradient back, through its norm if it has one, and add to the gradient of its gains."""
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    # The rotation is orthogonal, so its backward pass is the rotation by the opposite angle.
    turned = first * cos + second * sin
    second = second * cos - first * sin
    first = turned
    if NORM:
        x_first = tl.load(x_source, mask=inside, other=0.0).to(tl.float32)
        x_second = tl.load(x_source + HALF, mask=inside, other=0.0).to(tl.float32)
        squares = tl.sum(x_first * x_first + x_second * x_second, 1)
        rstd = (1.0 / tl.sqrt(squares / (2 * HALF) + eps))[:, None]
        x_first *= rstd
        x_second *= rstd
        # Before the gains are applied, which their own gradients do not contain.
        dgain_first += first * x_first
        dgain_second += second * x_second
        first *= gain_first
        second *= gain_second
        # The part along x is taken out: a norm does not see the length of a head.
        mean = (tl.sum(first * x_first + second * x_second, 1) / (2 * HALF))[:, None]
        first = rstd * (first - x_first * mean)
        second = rstd * (second - x_second * mean)

    tl.store(target, first.to(target.dtype.element_ty), mask=inside)
    tl.store(target + HALF, second.to(target.dtype.element_ty), mask=inside)

    return dgain_first, dgain_second


@triton.jit
def backward_heads(
    source,
    x_source,
    target,
    cos,
    sin,
    inside,
    eps,
    gain_first,
    gain_second,
    dgain_first,
    dgain_second,
    COUNT: tl.constexpr,
    HALF: tl.constexpr,
    NORM: tl.constexpr,
):
    """Do ``backward_head`` for COUNT heads in a row, which share their gains."""
    for head in range(COUNT):
        at = head * 2 * HALF
        dgain_first, dgain_second = backward_head(
            source + at,
            x_source + at,
            target + at,
            cos,
            sin,
            inside,
            eps,
            gain_first,
            gain_second,
            dgain_first,
            dgain_second,
            HALF,
            NORM,
        )

    return dgain_first, dgain_second


@triton.jit
def load_gains(weight_ptr, column, HALF: tl.constexpr, NORM: tl.constexpr):
    """Return the gains of both halves of a head, or 1, which nobody reads, without a norm."""
    first = 1.0
    second = 1.0
    if NORM:
        first = tl.load(weight_ptr + column).to(tl.float32)
        second = tl.load(weight_ptr + HALF + column).to(tl.float32)

    return first, second


@triton.jit
def copy_heads(source, target, inside, COUNT: tl.constexpr, HALF: tl.constexpr):
    """Copy COUNT heads as they are. In halves, because a whole head has twice the columns of these tiles."""
    for head in range(COUNT):
        at = head * 2 * HALF
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)
        tl.store(target + at + HALF, tl.load(source + at + HALF, mask=inside), mask=inside)


@triton.jit
def backward_kernel(
    dq_ptr,
    dk_ptr,
    dv_ptr,
    qkv_ptr,
    dqkv_ptr,
    cos_ptr,
    sin_ptr,
    q_weight_ptr,
    k_weight_ptr,
    partial_ptr,
    tokens,
    length,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    NORM: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Go tile by tile, so that a program sums the gains' gradients of all its tiles before it writes them."""
    column = tl.arange(0, HALF)[None, :]
    q_gain1, q_gain2 = load_gains(q_weight_ptr, column, HALF, NORM)
    k_gain1, k_gain2 = load_gains(k_weight_ptr, column, HALF, NORM)
    q_sum1 = tl.zeros([TOKENS, HALF], dtype=tl.float32)
    q_sum2 = q_sum1
    k_sum1 = q_sum1
    k_sum2 = q_sum1

    for tile in range(tl.program_id(0), tl.cdiv(tokens, TOKENS), tl.num_programs(0)):
        token = (tl.cast(tile, tl.int32) * TOKENS + tl.arange(0, TOKENS))[:, None]
        inside = token < tokens
        cos = tl.load(cos_ptr + token % length * HALF + column)
        sin = tl.load(sin_ptr + token % length * HALF + column)
        # 64 bits: the product of a long batch may have more than 2**31 elements.
        at = token.to(tl.int64) * ((HEADS + 2 * KV_HEADS) * 2 * HALF) + column
        q_at = token.to(tl.int64) * (HEADS * 2 * HALF) + column
        kv_at = token.to(tl.int64) * (KV_HEADS * 2 * HALF) + column

        dq = dq_ptr + q_at
        x = qkv_ptr + at
        dx = dqkv_ptr + at
        q_sum1, q_sum2 = backward_heads(
            dq, x, dx, cos, sin, inside, eps, q_gain1, q_gain2, q_sum1, q_sum2, HEADS, HALF, NORM
        )

        dk = dk_ptr + kv_at
        x += HEADS * 2 * HALF
        dx += HEADS * 2 * HALF
        k_sum1, k_sum2 = backward_heads(
            dk, x, dx, cos, sin, inside, eps, k_gain1, k_gain2, k_sum1, k_sum2, KV_HEADS, HALF, NORM
        )
        copy_heads(dv_ptr + kv_at, dx + KV_HEADS * 2 * HALF, inside, KV_HEADS, HALF)

    if NORM:
        target = partial_ptr + tl.program_id(0) * (4 * HALF) + tl.arange(0, HALF)
        tl.store(target, tl.sum(q_sum1, 0))
        tl.store(target + HALF, tl.sum(q_sum2, 0))
        tl.store(target + 2 * HALF, tl.sum(k_sum1, 0))
        tl.store(target + 3 * HALF, tl.sum(k_sum2, 0))

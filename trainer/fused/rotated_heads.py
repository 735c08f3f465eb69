"""Rotate queries and keys, with or without q/k-norm, in one pass over memory, in Triton.

The input is the product ``[B, T, (H + 2·KV)·D]``: all query heads, then the key heads, then the value heads.
Rotary positions are those of RoFormer, Su et al. 2021, section 3.2.2, with i paired to i + D/2. q/k-norm is
an RMSNorm over the D values of each head before the rotation (Qwen3 technical report 2025, section 2). The
values stay in the product. Only their gradient is copied, next to those of queries and keys.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from jobctl.trainer.fused.add_norm import programs

TOKENS = 16
TOKENS_BACKWARD = 8
"""Tokens of one program's tile."""
PROGRAMS = 16
WARPS = 1
"""Programs on each multiprocessor in the backward pass of q/k-norm, and their warps.

Each program sums the gains' gradients of its tiles.
"""


def plain_rotated(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    heads: int,
    kv_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the reference in plain PyTorch. Arguments and results are those of ``rotated``."""
    wide = torch.promote_types(qkv.dtype, torch.float32)
    parts = qkv.unflatten(-1, (heads + 2 * kv_heads, -1))
    q, k, v = parts.split((heads, kv_heads, kv_heads), dim=2)
    turned = []

    for x, weight in ((q, q_weight), (k, k_weight)):
        y = x.to(wide)
        if weight is not None:
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight.to(wide)

        first, second = y.chunk(2, dim=-1)
        c = cos[: x.shape[1], None].to(wide)
        s = sin[: x.shape[1], None].to(wide)
        turned.append(torch.cat((first * c - second * s, second * c + first * s), dim=-1).to(qkv.dtype))

    return turned[0], turned[1], v


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
    gain_first,
    gain_second,
    dgain_first,
    dgain_second,
    inside,
    eps,
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
        dgain_first += first * x_first
        dgain_second += second * x_second
        first *= gain_first
        second *= gain_second
        mean = (tl.sum(first * x_first + second * x_second, 1) / (2 * HALF))[:, None]
        first = rstd * (first - x_first * mean)
        second = rstd * (second - x_second * mean)

    tl.store(target, first.to(target.dtype.element_ty), mask=inside)
    tl.store(target + HALF, second.to(target.dtype.element_ty), mask=inside)

    return dgain_first, dgain_second


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
    column = tl.arange(0, HALF)[None, :]
    q_first = tl.zeros([TOKENS, HALF], dtype=tl.float32)
    q_second = q_first
    k_first = q_first
    k_second = q_first
    q_gain_first = 1.0
    q_gain_second = 1.0
    k_gain_first = 1.0
    k_gain_second = 1.0
    if NORM:
        q_gain_first = tl.load(q_weight_ptr + column).to(tl.float32)
        q_gain_second = tl.load(q_weight_ptr + HALF + column).to(tl.float32)
        k_gain_first = tl.load(k_weight_ptr + column).to(tl.float32)
        k_gain_second = tl.load(k_weight_ptr + HALF + column).to(tl.float32)

    for tile in range(tl.program_id(0), tl.cdiv(tokens, TOKENS), tl.num_programs(0)):
        token = (tl.cast(tile, tl.int32) * TOKENS + tl.arange(0, TOKENS))[:, None]
        inside = token < tokens
        position = token % length
        cos = tl.load(cos_ptr + position * HALF + column)
        sin = tl.load(sin_ptr + position * HALF + column)
        at = token.to(tl.int64) * ((HEADS + 2 * KV_HEADS) * 2 * HALF) + column
        q_at = token.to(tl.int64) * (HEADS * 2 * HALF) + column
        kv_at = token.to(tl.int64) * (KV_HEADS * 2 * HALF) + column

        for head in range(HEADS):
            head_at = head * 2 * HALF
            q_first, q_second = backward_head(
                dq_ptr + q_at + head_at,
                qkv_ptr + at + head_at,
                dqkv_ptr + at + head_at,
                cos,
                sin,
                q_gain_first,
                q_gain_second,
                q_first,
                q_second,
                inside,
                eps,
                HALF,
                NORM,
            )

        for head in range(KV_HEADS):
            head_at = (HEADS + head) * 2 * HALF
            k_first, k_second = backward_head(
                dk_ptr + kv_at + head * 2 * HALF,
                qkv_ptr + at + head_at,
                dqkv_ptr + at + head_at,
                cos,
                sin,
                k_gain_first,
                k_gain_second,
                k_first,
                k_second,
                inside,
                eps,
                HALF,
                NORM,
            )

        for head in range(KV_HEADS):
            source = dv_ptr + kv_at + head * 2 * HALF
            target = dqkv_ptr + at + (HEADS + KV_HEADS + head) * 2 * HALF
            tl.store(target, tl.load(source, mask=inside), mask=inside)
            tl.store(target + HALF, tl.load(source + HALF, mask=inside), mask=inside)

    if NORM:
        target = partial_ptr + tl.program_id(0) * (4 * HALF) + tl.arange(0, HALF)
        tl.store(target, tl.sum(q_first, 0))
        tl.store(target + HALF, tl.sum(q_second, 0))
        tl.store(target + 2 * HALF, tl.sum(k_first, 0))
        tl.store(target + 3 * HALF, tl.sum(k_second, 0))


def rotate(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    heads: int,
    kv_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return the rotated queries and keys of ``rotated``, outside autograd."""
    batch, length, width = qkv.shape
    head_dim = width // (heads + 2 * kv_heads)
    tokens = batch * length
    q = qkv.new_empty(batch, length, heads, head_dim)
    k = qkv.new_empty(batch, length, kv_heads, head_dim)
    forward_kernel[(triton.cdiv(tokens, TOKENS), heads + kv_heads)](
        qkv,
        q,
        k,
        cos,
        sin,
        cos if q_weight is None else q_weight,
        cos if k_weight is None else k_weight,
        tokens,
        length,
        eps,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HALF=head_dim // 2,
        NORM=q_weight is not None,
        TOKENS=TOKENS,
    )

    return q, k


class Rotated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        q_weight: Tensor | None,
        k_weight: Tensor | None,
        heads: int,
        kv_heads: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, width = qkv.shape
        head_dim = width // (heads + 2 * kv_heads)
        q, k = rotate(qkv, cos, sin, q_weight, k_weight, heads, kv_heads, eps)
        v = qkv.view(batch, length, -1, head_dim)[:, :, heads + kv_heads :]
        ctx.save_for_backward(qkv if q_weight is not None else None, cos, sin, q_weight, k_weight)
        ctx.shape = batch, length, heads, kv_heads, head_dim, eps

        return q, k, v

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor | None, ...]:
        qkv, cos, sin, q_weight, k_weight = ctx.saved_tensors
        batch, length, heads, kv_heads, head_dim, eps = ctx.shape
        tokens = batch * length
        norm = q_weight is not None
        dq = dq.contiguous()
        dk = dk.contiguous()
        dv = dv.contiguous()
        dqkv = dq.new_empty(batch, length, (heads + 2 * kv_heads) * head_dim)
        tiles = triton.cdiv(tokens, TOKENS_BACKWARD)
        count = programs(tiles, dq.device, PROGRAMS) if norm else tiles
        partial = torch.empty((count if norm else 1, 2, head_dim), dtype=torch.float32, device=dq.device)
        backward_kernel[(count,)](
            dq,
            dk,
            dv,
            qkv if norm else dq,
            dqkv,
            cos,
            sin,
            q_weight if norm else cos,
            k_weight if norm else cos,
            partial,
            tokens,
            length,
            eps,
            HEADS=heads,
            KV_HEADS=kv_heads,
            HALF=head_dim // 2,
            NORM=norm,
            TOKENS=TOKENS_BACKWARD,
            num_warps=WARPS,
        )

        if not norm:
            return dqkv, None, None, None, None, None, None, None

        dq_weight, dk_weight = partial.sum(0)

        return (
            dqkv,
            None,
            None,
            dq_weight.to(q_weight.dtype),
            dk_weight.to(k_weight.dtype),
            None,
            None,
            None,
        )


def rotated(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    heads: int,
    kv_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Map qkv ``[B, T, (H + 2·KV)·D]`` to q, k and v, ``[B, T, heads, D]``.

    The tables are ``[>= T, D/2]``, the gains ``[D]`` or None.
    """
    result: tuple[Tensor, Tensor, Tensor] = Rotated.apply(  # type: ignore[no-untyped-call]
        qkv, cos, sin, q_weight, k_weight, heads, kv_heads, eps
    )
    return result

"""From one projection to rotated queries and keys, with or without q/k-norm, in one pass over memory, in Triton.

The input is the product ``[B, T, (H + 2·KV)·D]``: all query heads, then the key heads, then the value heads. Rotary
positions: RoFormer, Su et al. 2021, section 3.2.2, pairing i with i + D/2. q/k-norm: an RMSNorm over each head's own D
values before the rotation (Qwen3 technical report 2025, section 2). The values are not touched: they stay where
the product put them, and only their gradient is copied, to lie beside those of queries and keys.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS, TOKENS_BACKWARD = 16, 32
"""Tokens of one program's tile."""
PROGRAMS = 64
"""Programs a head in q/k-norm's backward, each of which sums the gains' gradients of its tiles."""


def plain_rotated(
    qkv: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor | None, k_weight: Tensor | None,
    heads: int, kv_heads: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The reference in plain PyTorch; arguments and results as those of ``rotated``."""
    wide = torch.promote_types(qkv.dtype, torch.float32)
    parts = qkv.unflatten(-1, (heads + 2 * kv_heads, -1))
    q, k, v = parts.split((heads, kv_heads, kv_heads), dim=2)
    turned = []
    for x, weight in ((q, q_weight), (k, k_weight)):
        y = x.to(wide)
        if weight is not None:
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight.to(wide)
        first, second = y.chunk(2, dim=-1)
        c, s = cos[: x.shape[1], None].to(wide), sin[: x.shape[1], None].to(wide)
        turned.append(torch.cat((first * c - second * s, second * c + first * s), dim=-1).to(qkv.dtype))
    return turned[0], turned[1], v


@triton.jit
def forward_kernel(
    qkv_ptr, q_ptr, k_ptr, cos_ptr, sin_ptr, q_weight_ptr, k_weight_ptr, tokens, length, eps,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr, NORM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
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
def backward_kernel(
    dq_ptr, dk_ptr, dv_ptr, qkv_ptr, dqkv_ptr, cos_ptr, sin_ptr, q_weight_ptr, k_weight_ptr, partial_ptr,
    tokens, length, eps,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr, NORM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    column = tl.arange(0, HALF)[None, :]
    element = dqkv_ptr.dtype.element_ty
    dweight_first = tl.zeros([HALF], dtype=tl.float32)
    dweight_second = tl.zeros([HALF], dtype=tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(tokens, TOKENS), tl.num_programs(0)):
        token = (tl.cast(tile, tl.int32) * TOKENS + tl.arange(0, TOKENS))[:, None]
        inside = token < tokens
        at = token.to(tl.int64) * ((HEADS + 2 * KV_HEADS) * 2 * HALF) + head * (2 * HALF) + column
        if head < HEADS:
            source = dq_ptr + (token.to(tl.int64) * HEADS + head) * (2 * HALF) + column
        elif head < HEADS + KV_HEADS:
            source = dk_ptr + (token.to(tl.int64) * KV_HEADS + head - HEADS) * (2 * HALF) + column
        else:
            source = dv_ptr + (token.to(tl.int64) * KV_HEADS + head - HEADS - KV_HEADS) * (2 * HALF) + column
        first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
        if head < HEADS + KV_HEADS:
            position = token % length
            cos = tl.load(cos_ptr + position * HALF + column)
            sin = tl.load(sin_ptr + position * HALF + column)
            turned = first * cos + second * sin
            second = second * cos - first * sin
            first = turned
            if NORM:
                weight_ptr = q_weight_ptr if head < HEADS else k_weight_ptr
                x_first = tl.load(qkv_ptr + at, mask=inside, other=0.0).to(tl.float32)
                x_second = tl.load(qkv_ptr + at + HALF, mask=inside, other=0.0).to(tl.float32)
                squares = tl.sum(x_first * x_first, 1) + tl.sum(x_second * x_second, 1)
                rstd = (1.0 / tl.sqrt(squares / (2 * HALF) + eps))[:, None]
                x_first *= rstd
                x_second *= rstd
                dweight_first += tl.sum(first * x_first, 0)
                dweight_second += tl.sum(second * x_second, 0)
                first *= tl.load(weight_ptr + column).to(tl.float32)
                second *= tl.load(weight_ptr + HALF + column).to(tl.float32)
                mean = ((tl.sum(first * x_first, 1) + tl.sum(second * x_second, 1)) / (2 * HALF))[:, None]
                first = rstd * (first - x_first * mean)
                second = rstd * (second - x_second * mean)
        tl.store(dqkv_ptr + at, first.to(element), mask=inside)
        tl.store(dqkv_ptr + at + HALF, second.to(element), mask=inside)
    if NORM:  # noqa: SIM102 - the one is known to the compiler, the other is not
        if head < HEADS + KV_HEADS:
            target = (
                partial_ptr + (tl.program_id(0) * (HEADS + KV_HEADS) + head) * (2 * HALF) + tl.arange(0, HALF)
            )
            tl.store(target, dweight_first)
            tl.store(target + HALF, dweight_second)


class Rotated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor | None, k_weight: Tensor | None,
        heads: int, kv_heads: int, eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        batch, length, width = qkv.shape
        head_dim = width // (heads + 2 * kv_heads)
        tokens = batch * length
        q = qkv.new_empty(batch, length, heads, head_dim)
        k = qkv.new_empty(batch, length, kv_heads, head_dim)
        forward_kernel[(triton.cdiv(tokens, TOKENS), heads + kv_heads)](
            qkv, q, k, cos, sin, cos if q_weight is None else q_weight, cos if k_weight is None else k_weight,
            tokens, length, eps,
            HEADS=heads, KV_HEADS=kv_heads, HALF=head_dim // 2, NORM=q_weight is not None, TOKENS=TOKENS,
        )  # fmt: skip
        v = qkv.view(batch, length, -1, head_dim)[:, :, heads + kv_heads :]
        ctx.save_for_backward(qkv if q_weight is not None else None, cos, sin, q_weight, k_weight)
        ctx.shape = batch, length, heads, kv_heads, head_dim, eps
        return q, k, v

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor | None, ...]:
        qkv, cos, sin, q_weight, k_weight = ctx.saved_tensors
        batch, length, heads, kv_heads, head_dim, eps = ctx.shape
        tokens, norm = batch * length, q_weight is not None
        dq, dk, dv = dq.contiguous(), dk.contiguous(), dv.contiguous()
        dqkv = dq.new_empty(batch, length, (heads + 2 * kv_heads) * head_dim)
        tile = TOKENS_BACKWARD if norm else TOKENS
        tiles = triton.cdiv(tokens, tile)
        count = min(tiles, PROGRAMS) if norm else tiles
        partial = torch.empty(
            (count if norm else 1, heads + kv_heads, head_dim), dtype=torch.float32, device=dq.device
        )
        backward_kernel[(count, heads + 2 * kv_heads)](
            dq, dk, dv, qkv if norm else dq, dqkv, cos, sin, q_weight if norm else cos, k_weight if norm else cos,
            partial, tokens, length, eps,
            HEADS=heads, KV_HEADS=kv_heads, HALF=head_dim // 2, NORM=norm, TOKENS=tile,
        )  # fmt: skip
        if not norm:
            return dqkv, None, None, None, None, None, None, None
        by_head = partial.sum(0)
        dq_weight, dk_weight = by_head[:heads].sum(0), by_head[heads:].sum(0)
        return (
            dqkv, None, None, dq_weight.to(q_weight.dtype), dk_weight.to(k_weight.dtype), None, None, None,
        )  # fmt: skip


def rotated(
    qkv: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor | None, k_weight: Tensor | None,
    heads: int, kv_heads: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """qkv ``[B, T, (H + 2·KV)·D]``, tables ``[>= T, D/2]``, gains ``[D]`` or None -> q, k, v ``[B, T, heads, D]``."""
    result: tuple[Tensor, Tensor, Tensor] = Rotated.apply(  # type: ignore[no-untyped-call]
        qkv, cos, sin, q_weight, k_weight, heads, kv_heads, eps
    )
    return result

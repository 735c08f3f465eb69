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
from torch import Tensor

from jobctl.trainer.fused.add_norm import programs
from jobctl.trainer.fused.rotated_kernels import backward_kernel, forward_kernel

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
    # Sums and rotations are at least in float32, as in the kernels.
    wide = torch.promote_types(qkv.dtype, torch.float32)
    parts = qkv.unflatten(-1, (heads + 2 * kv_heads, -1))
    q, k, v = parts.split((heads, kv_heads, kv_heads), dim=2)
    turned = []

    for x, weight in ((q, q_weight), (k, k_weight)):
        y = x.to(wide)
        if weight is not None:
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight.to(wide)

        # The two halves of a head rotate against each other, as in transformers.
        first, second = y.chunk(2, dim=-1)
        c = cos[: x.shape[1], None].to(wide)
        s = sin[: x.shape[1], None].to(wide)
        turned.append(torch.cat((first * c - second * s, second * c + first * s), dim=-1).to(qkv.dtype))

    return turned[0], turned[1], v


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
        # The kernel needs some pointers, and does not use them without NORM.
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


def rotate_back(
    gradients: tuple[Tensor, Tensor, Tensor],
    qkv: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    heads: int,
    kv_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of ``qkv`` from those of q, k and v.

    Return with it the sums of each program for the gains' gradients, ``[programs, 2, D]``. Only the norm's
    backward pass reads ``qkv``, which is None without a norm.
    """
    dq, dk, dv = (gradient.contiguous() for gradient in gradients)
    batch, length, _, head_dim = dq.shape
    tokens = batch * length
    norm = q_weight is not None
    tiles = triton.cdiv(tokens, TOKENS_BACKWARD)

    # Without a norm no program has anything to sum up, so each does a single tile.
    count = programs(tiles, dq.device, PROGRAMS) if norm else tiles
    dqkv = dq.new_empty(batch, length, (heads + 2 * kv_heads) * head_dim)
    partial = torch.empty((count if norm else 1, 2, head_dim), dtype=torch.float32, device=dq.device)
    backward_kernel[(count,)](
        dq,
        dk,
        dv,
        # The kernel needs some pointers, and does not use them without NORM.
        dq if qkv is None else qkv,
        dqkv,
        cos,
        sin,
        cos if q_weight is None else q_weight,
        cos if k_weight is None else k_weight,
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

    return dqkv, partial


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
        q, k = rotate(qkv, cos, sin, q_weight, k_weight, heads, kv_heads, eps)
        v = qkv.unflatten(-1, (heads + 2 * kv_heads, -1))[:, :, heads + kv_heads :]
        # The rotation alone is linear, and its backward pass needs no input.
        ctx.save_for_backward(qkv if q_weight is not None else None, cos, sin, q_weight, k_weight)
        ctx.shape = heads, kv_heads, eps

        return q, k, v

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor | None, ...]:
        qkv, cos, sin, q_weight, k_weight = ctx.saved_tensors
        dqkv, partial = rotate_back((dq, dk, dv), qkv, cos, sin, q_weight, k_weight, *ctx.shape)
        if q_weight is None:
            return dqkv, None, None, None, None, None, None, None

        dq_weight, dk_weight = partial.sum(0)
        dq_weight = dq_weight.to(q_weight.dtype)
        dk_weight = dk_weight.to(k_weight.dtype)

        return dqkv, None, None, dq_weight, dk_weight, None, None, None


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

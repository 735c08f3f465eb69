"""Rotated queries and keys, with and without q/k-norm, against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jobctl.trainer.fused import rotated_heads as rotary
from tests.trainer.fused.reference import TYPES, agree, error, random, results, same_bits_again

HEADS = 4
KV_HEADS = 2
SIZE = 16
LENGTH = 9
"""Two sequences of nine tokens fill no tile, and the second begins in the middle of one."""


def call(
    function: Callable[..., Any], heads: int = HEADS, kv_heads: int = KV_HEADS, eps: float = 1e-5
) -> Callable[..., Any]:
    """Return ``function`` of qkv and the gains, with the same tables for every call."""
    generator = torch.Generator().manual_seed(0)
    angles = 6.3 * torch.rand(12, SIZE // 2, generator=generator).to(random(1).device)
    cos = angles.cos()
    sin = angles.sin()
    return lambda qkv, *gains: function(qkv, cos, sin, *(gains or (None, None)), heads, kv_heads, eps)


def product(dtype: torch.dtype = torch.float32, heads: int = HEADS, kv_heads: int = KV_HEADS) -> Tensor:
    return random(2, LENGTH, (heads + 2 * kv_heads) * SIZE, dtype=dtype)


def gradients(
    dtype: torch.dtype = torch.float32, heads: int = HEADS, kv_heads: int = KV_HEADS
) -> list[Tensor]:
    return [random(2, LENGTH, count, SIZE, dtype=dtype) for count in (heads, kv_heads, kv_heads)]


def gains(normed: bool) -> list[Tensor]:
    return [random(SIZE), random(SIZE)] if normed else []


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 1), (2, 2)])
def test_heads_and_their_gradients_are_the_plain_ones(
    heads: int, kv_heads: int, normed: bool, dtype: torch.dtype
) -> None:
    agree(
        call(rotary.rotated, heads, kv_heads),
        call(rotary.plain_rotated, heads, kv_heads),
        [product(dtype, heads, kv_heads), *gains(normed)],
        gradients(dtype, heads, kv_heads),
    )


@pytest.mark.parametrize("normed", [False, True])
def test_the_gradients_of_the_gains_are_summed_in_a_fixed_order(normed: bool) -> None:
    same_bits_again(call(rotary.rotated), [product(), *gains(normed)], gradients())


@pytest.mark.parametrize("normed", [False, True])
def test_heads_made_again_have_the_bits_of_the_forward_pass(normed: bool) -> None:
    qkv = product()
    weights = gains(normed)
    q, k, _ = call(rotary.rotated)(qkv, *weights)
    assert all(map(torch.equal, (q, k), call(rotary.rotate)(qkv, *weights)))


def test_a_rotation_keeps_the_length_of_every_head() -> None:
    qkv = product()
    q, k, v = call(rotary.rotated)(qkv)
    heads = qkv.unflatten(-1, (HEADS + 2 * KV_HEADS, SIZE))
    assert error(torch.cat([q, k], dim=2).norm(dim=-1), heads[:, :, : HEADS + KV_HEADS].norm(dim=-1)) < 1e-6
    assert torch.equal(v, heads[:, :, HEADS + KV_HEADS :])


def test_values_get_their_gradient_as_it_is() -> None:
    up = gradients()
    *_, dqkv = results(call(rotary.rotated), [product()], up)
    values = dqkv.unflatten(-1, (HEADS + 2 * KV_HEADS, SIZE))[:, :, HEADS + KV_HEADS :]
    assert torch.equal(values, up[2])


def test_a_head_of_zeros_has_no_norm_that_divides_by_zero() -> None:
    qkv = product()
    qkv[0, 0] = 0
    qkv.requires_grad_()
    q, k, v = call(rotary.rotated, eps=1e-6)(qkv, *gains(True))
    (q.sum() + k.sum() + v.sum()).backward()
    assert not q[0, 0].any()
    assert qkv.grad is not None
    assert bool(qkv.grad.isfinite().all())

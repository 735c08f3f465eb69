"""The tiles of the kernels that rotate: what they read and write, and nothing beyond it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton

from jobctl.trainer.fused.rotated_kernels import backward_kernel, forward_kernel
from tests.trainer.fused.reference import DEVICE, random

HEADS = 3
KV_HEADS = 2
HALF = 8
LENGTH = 5
TOKENS = 4
"""Ten tokens in tiles of four: the last tile is half empty."""
UNTOUCHED = 7.5


def guarded(*shape: int) -> tuple[torch.Tensor, Callable[[], bool]]:
    """Return a tensor with memory behind it, and whether nobody wrote there."""
    count = torch.Size(shape).numel()
    memory = torch.full((count + 4 * TOKENS * HALF,), UNTOUCHED, device=DEVICE)
    return memory[:count].view(shape), lambda: bool((memory[count:] == UNTOUCHED).all())


def test_a_half_empty_tile_writes_no_heads_beyond_the_last_token() -> None:
    tokens = 2 * LENGTH
    qkv = random(tokens, (HEADS + 2 * KV_HEADS) * 2 * HALF)
    table = random(LENGTH, HALF)
    q, q_ends = guarded(tokens, HEADS, 2 * HALF)
    k, k_ends = guarded(tokens, KV_HEADS, 2 * HALF)
    sizes = {"HEADS": HEADS, "KV_HEADS": KV_HEADS, "HALF": HALF, "NORM": False, "TOKENS": TOKENS}
    grid = (triton.cdiv(tokens, TOKENS), HEADS + KV_HEADS)
    forward_kernel[grid](qkv, q, k, table, table, table, table, tokens, LENGTH, 0.0, **sizes)
    assert q_ends()
    assert k_ends()
    assert not (q == UNTOUCHED).any()
    assert not (k == UNTOUCHED).any()


def test_each_programs_sums_are_those_of_its_own_tiles() -> None:
    """Two programs take the three tiles in turn, and write no gradient beyond the last token."""
    tokens = 2 * LENGTH
    dq = random(tokens, HEADS, 2 * HALF)
    dk = random(tokens, KV_HEADS, 2 * HALF)
    dv = random(tokens, KV_HEADS, 2 * HALF)
    qkv = random(tokens, (HEADS + 2 * KV_HEADS) * 2 * HALF)
    still = torch.ones(LENGTH, HALF, device=DEVICE)
    none = torch.zeros_like(still)
    gain = random(2 * HALF)
    dqkv, dqkv_ends = guarded(tokens, HEADS + 2 * KV_HEADS, 2 * HALF)
    partial, partial_ends = guarded(2, 2, 2 * HALF)
    backward_kernel[(2,)](
        dq,
        dk,
        dv,
        qkv,
        dqkv,
        still,
        none,
        gain,
        gain,
        partial,
        tokens,
        LENGTH,
        1e-6,
        HEADS=HEADS,
        KV_HEADS=KV_HEADS,
        HALF=HALF,
        NORM=True,
        TOKENS=TOKENS,
    )
    assert dqkv_ends()
    assert partial_ends()

    heads = qkv.view(tokens, HEADS + 2 * KV_HEADS, 2 * HALF)
    normed = heads * torch.rsqrt(heads.square().mean(-1, keepdim=True) + 1e-6)
    by_gain_q = (dq * normed[:, :HEADS]).sum(1)
    by_gain_k = (dk * normed[:, HEADS : HEADS + KV_HEADS]).sum(1)
    first = [*range(TOKENS), *range(2 * TOKENS, tokens)]
    second = [*range(TOKENS, 2 * TOKENS)]
    for program, of_program in enumerate((first, second)):
        expected = torch.stack([by_gain_q[of_program].sum(0), by_gain_k[of_program].sum(0)])
        torch.testing.assert_close(partial[program], expected, rtol=1e-4, atol=1e-4)

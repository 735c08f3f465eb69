"""Qwen3: the queries and keys of each head are normalised."""

from __future__ import annotations

import torch

from jobctl.trainer.models.layers.decoder import Decoder
from tests.trainer.models import tiny


@torch.no_grad()
def change_of_logits(model: Decoder, factor: float) -> float:
    """Return how far the logits go when all queries become ``factor`` times as long."""
    before = model(tiny.tokens())
    for block in model.each_block():
        block.self_attn.q_proj.weight.mul_(factor)
    return float((model(tiny.tokens()) - before).abs().max())


def test_the_length_of_the_queries_does_not_matter() -> None:
    """So no growth of these weights can make the softmax of attention too sharp."""
    assert change_of_logits(tiny.model("qwen3"), 100.0) < 1e-2
    assert change_of_logits(tiny.model("llama-gqa"), 100.0) > 1.0


def test_all_heads_share_the_gains_of_one_head() -> None:
    (block, _) = tiny.model("qwen3").each_block()
    assert block.self_attn.q_norm is not None
    assert block.self_attn.k_norm is not None
    assert block.self_attn.q_norm.weight.shape == (16,)
    assert block.self_attn.k_norm.weight.shape == (16,)


def test_heads_need_not_add_up_to_the_width() -> None:
    (block, _) = tiny.model("qwen3").each_block()
    assert block.self_attn.q_proj.weight.shape == (4 * 16, 48)
    assert block.self_attn.o_proj.weight.shape == (48, 4 * 16)

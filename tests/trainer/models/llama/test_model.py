"""LLaMA: rotary positions, grouped queries, RMSNorm, and no biases."""

from __future__ import annotations

import torch

from tests.trainer.models import tiny


def test_grouped_queries_share_smaller_key_and_value_matrices() -> None:
    (block, _) = tiny.model("llama-gqa").each_block()
    assert block.self_attn.q_proj.weight.shape == (4 * 12, 48)
    assert block.self_attn.k_proj.weight.shape == (2 * 12, 48)
    assert block.self_attn.v_proj.weight.shape == (2 * 12, 48)


def test_keys_that_are_copied_for_each_query_head_give_the_same_logits() -> None:
    """Grouped queries are a model with more key heads of which some are equal."""
    grouped = tiny.model("llama-gqa")
    whole = tiny.model("llama-mha", rope_theta=500_000.0)
    state = grouped.state_dict()
    for name, tensor in state.items():
        if "k_proj" in name or "v_proj" in name:
            heads = tensor.unflatten(0, (2, 12)).repeat_interleave(2, dim=0)
            state[name] = heads.flatten(0, 1)
    whole.load_state_dict(state)
    torch.testing.assert_close(whole(tiny.tokens()), grouped(tiny.tokens()))


def test_only_the_distance_of_two_tokens_counts() -> None:
    """A text behind another document has the logits that it has alone."""
    model = tiny.model("llama-mha")
    words = tiny.tokens(1, 8)
    behind = torch.cat([tiny.tokens(1, 20, seed=4), words], dim=1)
    documents = torch.tensor([[0] * 20 + [1] * 8])
    torch.testing.assert_close(
        model(behind, document_ids=documents)[:, 20:], model(words), rtol=1e-4, atol=1e-4
    )


def test_scaled_frequencies_of_3_1_turn_far_tokens_less() -> None:
    plain = tiny.model("llama-gqa").rotary
    scaled = tiny.model("llama-3.1").rotary
    assert plain is not None
    assert scaled is not None
    # The slowest pair is stretched by the factor of eight, the fastest not at all.
    torch.testing.assert_close(scaled.sin[:, 0], plain.sin[:, 0])
    torch.testing.assert_close(scaled.sin[8, -1], plain.sin[1, -1], rtol=1e-4, atol=0)


def test_there_is_no_bias_anywhere() -> None:
    assert not [name for name in tiny.model("llama-gqa").state_dict() if name.endswith(".bias")]

"""GPT-2: positions are learned, and biases are a choice."""

from __future__ import annotations

import torch

from tests.trainer.models import tiny


def test_without_its_positions_the_order_of_earlier_tokens_is_unknown() -> None:
    """In one layer the last token sees the same set, so that only the table of positions tells them apart."""
    model = tiny.model("gpt2", num_hidden_layers=1)
    words = tiny.tokens(1, 9)
    turned = torch.cat([words[:, :-1].flip(1), words[:, -1:]], dim=1)
    assert not torch.allclose(model(words)[:, -1], model(turned)[:, -1], atol=1e-3)

    assert model.embed_positions is not None
    with torch.no_grad():
        model.embed_positions.weight.zero_()
    torch.testing.assert_close(model(words)[:, -1], model(turned)[:, -1])


def test_biases_come_with_every_layer_and_every_norm_or_not_at_all() -> None:
    without = tiny.model("gpt2").state_dict()
    assert not [name for name in without if name.endswith(".bias")]

    biases = {
        name.removesuffix(".bias")
        for name in tiny.model("gpt2-biases").state_dict()
        if name.endswith(".bias")
    }
    weights = {name.removesuffix(".weight") for name in without}
    assert biases == weights - {"embed_tokens", "embed_positions"}


def test_the_mean_of_the_stream_is_not_seen() -> None:
    """LayerNorm takes it away, where RMSNorm would not."""
    norm = tiny.model("gpt2").norm
    x = torch.randn(3, 48)
    torch.testing.assert_close(norm(x + 5), norm(x), rtol=1e-4, atol=1e-4)

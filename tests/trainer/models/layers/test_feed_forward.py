"""Feed-forward layers: their formulas and their matrices."""

from __future__ import annotations

import torch

from jobctl.trainer.models.layers.feed_forward import GeluFeedForward, SwiGluFeedForward
from tests.trainer.models.tiny import config


def test_a_gate_multiplies_what_goes_up() -> None:
    torch.manual_seed(0)
    layer = SwiGluFeedForward(config("llama-mha"))
    x = torch.randn(2, 3, 48)
    gate = x @ layer.gate_proj.weight.T
    expected = (gate * torch.sigmoid(gate) * (x @ layer.up_proj.weight.T)) @ layer.down_proj.weight.T

    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_a_closed_gate_lets_nothing_through() -> None:
    layer = SwiGluFeedForward(config("llama-mha"))
    torch.nn.init.zeros_(layer.gate_proj.weight)

    assert torch.equal(layer(torch.randn(2, 48)), torch.zeros(2, 48))


def test_gelu_is_the_tanh_form_that_gpt2_was_trained_with() -> None:
    torch.manual_seed(0)
    layer = GeluFeedForward(config("gpt2-biases"))
    x = torch.randn(2, 3, 48)
    up = x @ layer.up_proj.weight.T + layer.up_proj.bias
    cubic = (2 / torch.pi) ** 0.5 * (up + 0.044715 * up**3)
    expected = 0.5 * up * (1 + torch.tanh(cubic)) @ layer.down_proj.weight.T + layer.down_proj.bias

    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_only_a_model_with_biases_has_them() -> None:
    with_biases = GeluFeedForward(config("gpt2-biases"))
    without = GeluFeedForward(config("gpt2"))

    assert [name for name, _ in with_biases.named_parameters() if name.endswith("bias")] == [
        "up_proj.bias",
        "down_proj.bias",
    ]
    assert [name for name, _ in without.named_parameters()] == ["up_proj.weight", "down_proj.weight"]


def test_a_gated_layer_has_three_matrices_of_the_declared_widths() -> None:
    shape = config("qwen3", hidden_size=40, intermediate_size=72)
    sizes = {name: list(weight.shape) for name, weight in SwiGluFeedForward(shape).named_parameters()}

    assert sizes == {
        "gate_proj.weight": [72, 40],
        "up_proj.weight": [72, 40],
        "down_proj.weight": [40, 72],
    }

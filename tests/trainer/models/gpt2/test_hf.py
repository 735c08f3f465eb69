"""GPT-2's files of ``transformers``: joined and transposed matrices, biases, old names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.gpt2.hf import GPT2Mapping
from tests.trainer.models import tiny

MAPPING = GPT2Mapping()


def test_q_k_and_v_are_joined_and_every_matrix_is_transposed() -> None:
    model = tiny.model("gpt2-biases")
    ours = model.state_dict()
    theirs = MAPPING.to_hf(model.config, ours)
    joined = theirs["transformer.h.1.attn.c_attn.weight"]
    parts = [ours[f"blocks.1.self_attn.{letter}_proj.weight"] for letter in "qkv"]
    assert torch.equal(joined, torch.cat(parts).t())
    assert torch.equal(theirs["transformer.h.0.mlp.c_fc.weight"], ours["blocks.0.mlp.up_proj.weight"].t())
    # An embedding is no Conv1D, and a gain has nothing to transpose.
    assert torch.equal(theirs["transformer.wpe.weight"], ours["embed_positions.weight"])
    assert torch.equal(theirs["transformer.h.0.ln_1.weight"], ours["blocks.0.input_layernorm.weight"])
    assert all(tensor.is_contiguous() for tensor in theirs.values())


def test_a_model_without_biases_gets_zeros_of_their_shapes() -> None:
    model = tiny.model("gpt2")
    theirs = MAPPING.to_hf(model.config, model.state_dict())
    biases = {name: tensor for name, tensor in theirs.items() if name.endswith(".bias")}
    weights = {name.removesuffix(".weight") for name in theirs if name.endswith(".weight")}
    assert {name.removesuffix(".bias") for name in biases} == weights - {"transformer.wte", "transformer.wpe"}
    assert biases["transformer.h.0.attn.c_attn.bias"].shape == (3 * 48,)
    assert not any(tensor.any() for tensor in biases.values())


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_files_with_and_without_the_prefix_are_read_and_masks_are_left(prefix: str) -> None:
    """The oldest files of the hub have no prefix, and keep the causal mask among their weights."""
    model = tiny.model("gpt2-biases")
    theirs = MAPPING.to_hf(model.config, model.state_dict())
    stored = {prefix + name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    stored[f"{prefix}h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    stored[f"{prefix}h.1.attn.masked_bias"] = torch.tensor(-1e4)
    back = MAPPING.from_hf(stored)
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


def test_a_configuration_without_keys_is_that_of_the_smallest_gpt2() -> None:
    """Old files leave out what has its default."""
    config = MAPPING.model_config("gpt2", {})
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (768, 3072, 12)
    assert (config.num_attention_heads, config.head_dim, config.vocab_size) == (12, 64, 50257)
    assert config.bias
    assert config.tie_word_embeddings


@pytest.mark.parametrize(
    "changes", [{"head_dim": 16}, {"num_key_value_heads": 2}], ids=["another width", "grouped queries"]
)
def test_a_shape_that_their_class_cannot_have_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="transformers' GPT-2 has none of width 48"):
        MAPPING.config_values(tiny.config("gpt2", **changes))


def test_another_activation_is_refused() -> None:
    """The exact GELU gives other logits from the same weights."""
    with pytest.raises(UserError, match="activation_function=gelu is not supported"):
        MAPPING.model_config("gpt2", {"activation_function": "gelu"})

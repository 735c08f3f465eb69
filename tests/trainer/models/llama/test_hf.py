"""LLaMA's files of ``transformers``, of old releases and new ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.llama.hf import LlamaMapping
from tests.trainer.models import tiny

MAPPING = LlamaMapping(model_type="llama", class_name="LlamaForCausalLM")
OLD: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
"""The keys of LLaMA's first release, which had neither key heads nor head_dim."""


def test_keys_that_old_files_lack_follow_from_the_others() -> None:
    config = MAPPING.model_config("llama", OLD)
    assert config.num_key_value_heads == 4
    assert config.head_dim == 12
    assert config.rope_theta == 10_000.0
    assert config.rope_type == "default"
    assert not config.tie_word_embeddings


def test_a_family_may_have_its_own_width_of_a_head() -> None:
    mapping = LlamaMapping(model_type="x", class_name="X", default_head_dim=16)
    assert mapping.model_config("llama", OLD).head_dim == 16
    assert mapping.model_config("llama", OLD | {"head_dim": 8}).head_dim == 8


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 5e5},
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 5e5},
    ],
    ids=["transformers 5", "transformers 4", "before that"],
)
def test_scaled_positions_are_read_from_each_release(rope: dict[str, Any]) -> None:
    config = MAPPING.model_config("llama", OLD | rope)
    assert (config.rope_type, config.rope_factor, config.rope_theta) == ("linear", 4.0, 5e5)


@pytest.mark.parametrize("shape", ["llama-gqa", "llama-3.1", "llama-linear"])
def test_positions_are_written_for_both_releases(shape: str) -> None:
    """An older transformers reads ``rope_scaling`` alone, and would take plain positions without it."""
    config = tiny.config(shape)
    values = MAPPING.config_values(config)
    new = MAPPING.model_config("llama", OLD | {"rope_parameters": values["rope_parameters"]})
    old = MAPPING.model_config(
        "llama", OLD | {"rope_scaling": values.get("rope_scaling"), "rope_theta": values["rope_theta"]}
    )
    for read in (new, old):
        assert read.rope_type == config.rope_type
        assert read.rope_theta == config.rope_theta
        if config.rope_type != "default":
            assert read.rope_factor == config.rope_factor
        if config.rope_type == "llama3":
            assert read.rope_original_positions == config.rope_original_positions


def test_positions_of_a_part_of_a_head_are_refused() -> None:
    rope = {"rope_type": "default", "partial_rotary_factor": 0.5}
    with pytest.raises(UserError, match="rope_type=default is not supported"):
        MAPPING.model_config("llama", OLD | {"rope_parameters": rope})


def test_a_width_that_their_configuration_refuses_is_refused_before_it_is_written() -> None:
    strict = LlamaMapping(model_type="x", class_name="X", width_of_heads=True)
    with pytest.raises(UserError, match="X refuses a width of 48 with 5 heads"):
        strict.config_values(tiny.config("llama-mha", num_attention_heads=5, num_key_value_heads=5))
    assert MAPPING.config_values(tiny.config("llama-mha", num_attention_heads=5, num_key_value_heads=5))


def test_layers_are_renamed_and_computed_tables_are_left() -> None:
    """Old files keep the rotary table of each layer among the weights."""
    model = tiny.model("llama-mha")
    theirs = MAPPING.to_hf(model.config, model.state_dict())
    assert "model.layers.1.self_attn.q_proj.weight" in theirs
    assert "lm_head.weight" in theirs
    theirs["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    back = MAPPING.from_hf(theirs)
    assert back.keys() == model.state_dict().keys()

"""Folders and configurations of ``transformers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.interop.hf_folder import config_from_hf, from_hf, hf_config, load_hf, to_hf
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import model_of_weights
from tests.trainer.models import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", tiny.WITH_HF)
def test_names_and_configurations_go_there_and_back(shape: str) -> None:
    model = tiny.model(shape)
    state = model.state_dict()
    back = from_hf(model.config, to_hf(model.config, state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    read = config_from_hf(hf_config(model.config, "float32", {}))

    # The configuration of their GPT-2 does not say whether its biases are zero.
    expected = model.config
    if tiny.family(shape).name == "gpt2":
        expected = msgspec.structs.replace(expected, bias=True)
    assert read == expected


@pytest.mark.parametrize("shape", tiny.WITH_HF)
@pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
def test_a_folder_of_theirs_loads_into_ours(tmp_path: Path, shape: str, shard_size: str) -> None:
    theirs = tiny.twin(tiny.model(shape))
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    config, state = load_hf(tmp_path)
    ours = model_of_weights(config, state, ManualAttention(), CPU)
    with torch.no_grad():
        torch.testing.assert_close(ours(tiny.tokens()), theirs(tiny.tokens()).logits, rtol=1e-5, atol=2e-5)


def test_a_gpt2_has_biases_where_one_of_them_is_not_zero(tmp_path: Path) -> None:
    theirs = tiny.twin(tiny.model("gpt2"))
    theirs.save_pretrained(tmp_path / "zero")
    assert not load_hf(tmp_path / "zero")[0].bias
    torch.nn.init.ones_(theirs.transformer.h[1].mlp.c_fc.bias)  # type: ignore[union-attr,index,arg-type]
    theirs.save_pretrained(tmp_path / "one")
    assert load_hf(tmp_path / "one")[0].bias


def test_a_gpt2_shape_that_transformers_cannot_have_is_refused() -> None:
    with pytest.raises(UserError, match="none of width 48 with 4 heads of 16"):
        hf_config(tiny.config("gpt2", head_dim=16), "float32", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llamma"}, "did you mean 'llama'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 8.0}}, "rope_type=yarn is not supported"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "'low_freq_factor' is missing"),
        ({"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, "rope_type=dynamic"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"num_hidden_layers": None}, "'num_hidden_layers' is missing"),
    ],
)
def test_what_our_models_do_not_have_is_named(change: dict[str, Any], message: str) -> None:
    values = hf_config(tiny.config("llama-gqa"), "float32", {}) | change
    with pytest.raises(UserError, match=message):
        config_from_hf(values)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        load_hf(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(hf_config(tiny.config("qwen3"), "float32", {})))
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(UserError, match=r"no model\*\.safetensors"):
        load_hf(tmp_path)


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    tiny.twin(tiny.model("qwen3")).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": 102}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"embed_tokens.weight is \(101, 48\), expected \(102, 48\)"):
        load_hf(tmp_path)


def test_an_unknown_family_is_answered_with_the_nearest_name() -> None:
    config = tiny.config("llama-gqa", architecture="lama")
    with pytest.raises(UserError, match="unknown architecture 'lama'; did you mean 'llama'"):
        hf_config(config, "float32", {})


def test_a_family_without_a_counterpart_is_refused_in_words() -> None:
    model = tiny.model("gemma_like")
    with pytest.raises(UserError, match="gemma_like has no counterpart in transformers"):
        hf_config(model.config, "float32", {})
    with pytest.raises(UserError, match="gemma_like has no counterpart in transformers"):
        to_hf(model.config, model.state_dict())

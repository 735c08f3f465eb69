"""The shape of a model: what is missing or impossible is refused by its name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.loader import load_model, names
from jobctl.jobs.catalog.schema import ModelConfig


@pytest.mark.parametrize("name", names("models"))
def test_a_model_of_the_catalogue_comes_back_from_its_own_settings(name: str) -> None:
    config = load_model(name).config
    assert msgspec.convert(msgspec.to_builtins(config), ModelConfig) == config


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
def test_a_size_has_no_default_and_is_not_zero(key: str) -> None:
    settings: dict[str, Any] = msgspec.to_builtins(load_model("qwen3_smoke").config)
    with pytest.raises(msgspec.ValidationError, match=f"at `\\$.{key}`"):
        msgspec.convert({**settings, key: 0}, ModelConfig)

    del settings[key]
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{key}`"):
        msgspec.convert(settings, ModelConfig)

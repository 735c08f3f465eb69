"""The catalogue's data sets and tokenizers are complete, and agree with its models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig, TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry, load_model, names


@pytest.mark.parametrize("name", names("tokenizers"))
def test_a_tokenizers_ids_are_below_its_size(name: str) -> None:
    entry = load_entry("tokenizers", name, TokenizerEntry)
    assert max(entry.ids) < entry.vocab_size <= entry.model_vocab_size
    assert entry.eos_id < entry.vocab_size
    assert entry.eos_id not in entry.ids, "a special token in a text is text"
    assert entry.encoders[-1] == "tokenizers", "the reference is the last resort"


@pytest.mark.parametrize("name", names("tokenizers"))
def test_a_tokenizer_proves_itself_by_a_hard_text(name: str) -> None:
    text = load_entry("tokenizers", name, TokenizerEntry).text
    assert any(character.isdigit() for character in text)
    assert "  " in text
    assert not text.isascii()


@pytest.mark.parametrize("name", names("datasets"))
def test_a_data_set_has_one_origin_and_a_licence(name: str) -> None:
    entry = load_entry("datasets", name, DatasetEntry)
    assert bool(entry.hub) != bool(entry.package)
    assert entry.license
    assert entry.tokens > 0


def test_the_models_take_data_and_a_tokenizer_of_the_catalogue() -> None:
    for name in names("models"):
        settings: dict[str, Any] = load_model(name).train
        assert settings.get("dataset", "sotu") in names("datasets")
        assert settings.get("tokenizer", "gpt2") in names("tokenizers")


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": -1},
        {"shard_bytes": 0},
        {"shuffle": 2**63},
        {"max_reject_share": 1.5},
        {"weights": {"books": -1}},
        {"duplicates": "some"},
        {"encoder": "fastest"},
    ],
    ids=str,
)
def test_an_impossible_option_of_prep_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, PrepConfig)

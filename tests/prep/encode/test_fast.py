from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.prep.encode import fast
from jobctl.prep.encode.encoder import differing
from jobctl.prep.encode.fast import GigatokenEncoder, in_nfc
from jobctl.prep.encode.look import look
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from tests.prep.encode.real import english, made, same, torture_set


def test_gigatokens_cache_is_thrown_away(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "RENEW_AFTER", 1000)
    monkeypatch.setattr(fast, "WARM", 1)
    memory = iter(range(0, 10**12, fast.CACHE + 1))
    monkeypatch.setattr(fast, "resident", lambda: next(memory))
    encoder, reference = GigatokenEncoder(TokenizerFile(files["gpt2"])), made("tokenizers", files["gpt2"])
    texts, renewed = english()[:4], []
    renew = encoder._renew
    monkeypatch.setattr(encoder, "_renew", lambda: (renewed.append(1), renew()))
    assert all(differing(reference, encoder, [text]) is None for text in texts)
    assert len(renewed) == len(texts) - 1


def test_only_texts_that_are_not_in_nfc_are_changed() -> None:
    texts = ["plain", "caf\xe9", "cafe\u0301", "a\u0301\u0316"]
    assert in_nfc(texts, [look(text) for text in texts]) == [
        b"plain",
        "caf\xe9".encode(),
        "caf\xe9",
        "\xe1\u0316",
    ]


def test_a_text_whose_look_has_dropped_its_forms_is_brought_into_nfc_all_the_same() -> None:
    texts = ["caf\xe9", "cafe\u0301"]
    dropped = [look(text)._replace(data=b"", nfc="") for text in texts]
    assert in_nfc(texts, dropped) == ["caf\xe9", "caf\xe9"]


@pytest.mark.parametrize("name", ["llama3", "qwen3"])
def test_gigatoken_gives_texts_and_their_bytes_the_same_ids(files: dict[str, Path], name: str) -> None:
    encoder, texts = made("gigatoken", files[name]), torture_set()[:2000]
    assert same(encoder.encode(texts, [look(text) for text in texts]), encoder.encode(texts))

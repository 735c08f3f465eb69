from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from tokenizers.normalizers import NFC

from jobctl.prep.encode.identity import MARK_LEADS, identity, is_identity, is_nfc
from tests.prep.encode.real import NAMES, english, made, torture_set


def test_what_python_takes_for_nfc_the_reference_leaves_as_it_is() -> None:
    """Every character alone, and between marks that it might be composed with or change places with."""
    characters = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
    for before, after in [("", ""), ("a", "\u0301"), ("a\u0316", ""), ("a\u0301", "\u0316")]:
        texts = [before + character + after for character in characters]
        whole = "\n".join(text for text in texts if unicodedata.is_normalized("NFC", text))
        assert NFC().normalize_str(whole) == whole


@pytest.mark.parametrize("name", NAMES)
def test_texts_that_a_model_sees_as_the_same_ids_have_one_identity(files: dict[str, Path], name: str) -> None:
    texts = [*torture_set()[:3000], *english()[:3]]
    texts += [unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in texts]
    texts += [text.replace(" ", "\u2581") for text in texts if " " in text]
    identity_of: dict[bytes, str] = {}
    for text, ids in zip(texts, made("tokenizers", files[name]).encode(texts), strict=True):
        assert identity_of.setdefault(ids.tobytes(), identity(text)) == identity(text)


def test_ascii_takes_in_only_the_marks_that_are_looked_for() -> None:
    """So a rest without them that is in NFC stays so with ASCII in between."""
    everything = (chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000)
    pairs = [unicodedata.decomposition(character).split() for character in everything]
    canonical = [pair for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")]
    seconds = {chr(int(second, 16)) for first, second in canonical if int(first, 16) < 128}
    assert len(seconds) > 20
    assert all(second.encode()[:1] in MARK_LEADS for second in seconds)


def test_the_fast_check_says_what_pythons_says() -> None:
    texts = [*torture_set()[:3000], *english()[:3]]
    marks = ["\u0301", "\u0338", "\u0316\u0301", "\u0301\u0316", "\u3099", "\u1161", "\u05b0", "\u2126"]
    texts += [
        before + mark + "b"
        for before in ("a", "\u00e9", "=", "\u2019a", "\u304b", "\u1100")
        for mark in marks
    ]
    texts = [f"{text}, and much more that is ASCII: {'word ' * len(text)}" for text in texts]
    for text in texts:
        assert is_nfc(text, text.encode()) == unicodedata.is_normalized("NFC", text) == is_nfc(text, b"")


def test_a_text_that_is_called_its_own_identity_is_that() -> None:
    texts = [*torture_set()[:3000], *english()[:3], "a\u2581b", "caf\u00e9", "cafe\u0301"]
    assert all(identity(text) == text for text in texts if is_identity(text, text.encode()))
    assert [is_identity(text, text.encode()) for text in texts[-3:]] == [False, True, False]


def test_other_texts_keep_identities_of_their_own() -> None:
    texts = ["a b", "a  b", "A b", "a\u00a0b", "\ufb01", "fi", "", " "]
    assert len({identity(text) for text in texts}) == len(texts)

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from tokenizers.normalizers import NFC

from jobctl.prep.encode.identity import identity
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


def test_other_texts_keep_identities_of_their_own() -> None:
    texts = ["a b", "a  b", "A b", "a\u00a0b", "\ufb01", "fi", "", " "]
    assert len({identity(text) for text in texts}) == len(texts)

"""The identity of a document: a form that decides its split and its duplicates.

Texts with the same ids must have the same identity. Otherwise a document could be in training and in
validation at once. Our tokenizers make different texts equal in two ways: Qwen3 normalises to NFC, and
LLaMA-2 takes U+2581 for a space. The identity does both for every tokenizer, so that all tokenizers share one
split.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

SENTENCEPIECE_SPACE = "\u2581"
Identity = Callable[[str], bytes]


def nfc(text: str) -> str:
    """Return a text in NFC by the reference's own Unicode.

    A test checks that the reference does not change a text that Python calls NFC.
    """
    return text if unicodedata.is_normalized("NFC", text) else brought_into_nfc(text)


def brought_into_nfc(text: str) -> str:
    """Return the reference's NFC of a text that is known not to be in NFC."""
    from tokenizers.normalizers import NFC

    normalized: str = NFC().normalize_str(text)
    return normalized


def identity(text: str) -> str:
    """Return the form that is the same for all texts that a model cannot tell apart."""
    if text.isascii():
        return text
    return with_plain_spaces(nfc(text))


def with_plain_spaces(text: str) -> str:
    """Return the identity of a text that is in NFC."""
    return text.replace(SENTENCEPIECE_SPACE, " ")


def text_identity(text: str) -> bytes:
    """Return the identity in UTF-8."""
    return identity(text).encode()

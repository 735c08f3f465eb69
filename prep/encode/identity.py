"""The identity of a document: a form that decides its split and its duplicates.

Texts with the same ids must have the same identity. Otherwise a document could be in training and in
validation at once. Our tokenizers make different texts equal in two ways: Qwen3 normalises to NFC, and
LLaMA-2 takes U+2581 for a space. The identity does both for every tokenizer, so that all tokenizers share one
split.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

Identity = Callable[[str], bytes]
SENTENCEPIECE_SPACE = "\u2581"


ASCII = bytes(range(128))
MARK_LEADS = (b"\xcc", b"\xcd")
"""First bytes, in UTF-8, of all marks that an ASCII character before them may take in (U+0300 to U+036F)."""


def is_nfc(text: str, data: bytes) -> bool:
    """Return True if a text is in NFC. ``data`` is its UTF-8, or empty.

    Where most of a text is ASCII only the rest is looked at, which is five times as fast. A rest without marks that
    is in NFC stays so with ASCII in between.
    """
    if data and 4 * len(data) < 5 * len(text):
        rest = data.translate(None, ASCII)
        if not any(lead in rest for lead in MARK_LEADS) and unicodedata.is_normalized("NFC", rest.decode()):
            return True

    return unicodedata.is_normalized("NFC", text)


def nfc(text: str) -> str:
    """Return a text in NFC by the reference's own Unicode.

    A test checks that the reference does not change a text that Python calls NFC.
    """
    from tokenizers.normalizers import NFC

    if unicodedata.is_normalized("NFC", text):
        return text

    normalized: str = NFC().normalize_str(text)
    return normalized


def identity(text: str) -> str:
    """Return the form that is the same for all texts that a model cannot tell apart."""
    if text.isascii():
        return text
    return nfc(text).replace(SENTENCEPIECE_SPACE, " ")


def is_identity(text: str, data: bytes) -> bool:
    """Return True if a text is its own identity, as most texts are. ``data`` is its UTF-8."""
    return text.isascii() or (is_nfc(text, data) and SENTENCEPIECE_SPACE not in text)


def text_identity(text: str) -> bytes:
    """Return the identity in UTF-8."""
    return identity(text).encode()

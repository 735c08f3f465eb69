"""One look through a text, for all steps that ask about its characters: identity, normalisation, encoders.

Most texts are ASCII except for a few quotes and spaces. So the other characters are extracted once, and all
questions are about them alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from jobctl.prep.encode.characters import has_new
from jobctl.prep.encode.identity import SENTENCEPIECE_SPACE, brought_into_nfc

ASCII = bytes(range(128))
MARK_LEADS = (b"\xcc", b"\xcd")
"""First bytes, in UTF-8, of all marks that an ASCII character before them may take in (U+0300 to U+036F)."""


class Look(NamedTuple):
    """A text's UTF-8, and the known facts about its characters.

    ``is_identity``: the text is its own identity (see ``identity``). ``has_new``: it has a character of a newer
    Unicode than the reference's. ``nfc`` is the text in NFC, and empty if the text is already in NFC.
    """

    data: bytes
    is_nfc: bool
    is_identity: bool
    has_new: bool
    nfc: str = ""


def look(text: str) -> Look:
    """Look through a text. Raises UnicodeEncodeError for a lone surrogate."""
    data = text.encode()
    # In ASCII each character is one byte, and has none of the questions below.
    if len(data) == len(text):
        return Look(data, is_nfc=True, is_identity=True, has_new=False)

    rest = data.translate(None, ASCII)
    is_in_nfc = _is_nfc(text, rest)
    has_space = SENTENCEPIECE_SPACE.encode() in rest

    # It is kept, because both the identity and an encoder may need it, and it is slow to make.
    nfc = "" if is_in_nfc else brought_into_nfc(text)

    return Look(data, is_in_nfc, is_in_nfc and not has_space, has_new(rest), nfc)


def looks_of(texts: Sequence[str], known: Sequence[Look]) -> Sequence[Look]:
    """Return the looks that are known, or else look through all texts."""
    return known or [look(text) for text in texts]


def _is_nfc(text: str, rest: bytes) -> bool:
    """Return True if a text is in NFC. ``rest`` is the UTF-8 of its characters that are not ASCII."""
    # A rest without marks that is in NFC stays in NFC with ASCII in between. In other scripts nearly the
    # whole text is the rest, and a look at it would save no time.
    first, second = MARK_LEADS
    is_small = 4 * len(rest) < len(text) and first not in rest and second not in rest
    if is_small and unicodedata.is_normalized("NFC", rest.decode()):
        return True

    return unicodedata.is_normalized("NFC", text)

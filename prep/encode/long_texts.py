"""Long texts are encoded in parts, for BPE needs many times the memory of its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from jobctl.prep.encode.encoder import PART, Encoder
from jobctl.prep.shards.format import Ids

UNBROKEN = 4_000_000
"""Characters without a place to cut that are still taken: BPE needs some 55 bytes for each."""
CUT = re.compile("(?<=[A-Za-z]) (?=[A-Za-z])")


def cuts(text: str, part: int = PART, unbroken: int = UNBROKEN) -> list[int] | None:
    """Return where a long text may be cut so that its parts' ids, end to end, are the whole's.

    A cut is before a space between two ASCII letters: every one of our tokenizers splits there before
    it merges, and Unicode's normal forms do not reach across. Return None where no such place comes
    for ``unbroken`` characters.
    """
    places = [0]
    begin = 0
    while len(text) - begin > part:
        cut = _last_cut(text, begin + 1, begin + part)
        if cut is None:
            match = CUT.search(text, begin + part - 1)
            cut = match.start() if match else len(text)
            if cut - begin > unbroken:
                return None
        if cut == len(text):
            break
        places.append(cut)
        begin = cut
    return places


def _last_cut(text: str, begin: int, end: int) -> int | None:
    place = text.rfind(" ", begin, end)
    while place > 0 and not CUT.match(text, place):
        place = text.rfind(" ", begin, place)
    return place if place > 0 else None


class LongTexts:
    """Encode with another encoder, and never more than a part at once."""

    def __init__(self, encoder: Encoder, prefixed: bool, part: int = PART) -> None:
        """``prefixed``: the encoder puts a space in front of a text, so the cut's space is left out."""
        self.name = encoder.name
        self._encoder = encoder
        self._prefixed = prefixed
        self._part = part

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        if all(len(text) <= self._part for text in texts):
            return self._encoder.encode(texts, data)
        return [self._whole(text) for text in texts]

    def _whole(self, text: str) -> Ids:
        places = cuts(text, self._part, unbroken=len(text)) or [0]
        begins = [place + (self._prefixed and place > 0) for place in places]
        parts = (text[begin:end] for begin, end in zip(begins, [*places[1:], len(text)], strict=True))
        return np.concatenate([self._encoder.encode([part])[0] for part in parts])

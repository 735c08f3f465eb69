"""Encode long texts in parts, because BPE needs many times the memory of its text.

The joined ids of the parts are the ids of the whole text, in every script. A text is cut only at places
where the tokenizer never merges:

1. Before a space between two letters of any script. All our tokenizers split there.
2. Otherwise after a letter or digit and before punctuation or a space (GPT-2, LLaMA-3, Qwen3).
3. Otherwise at the end of a word of their pre-tokenizer, which takes 2 us per character to find.
4. Otherwise between two characters that no token has side by side (LLaMA-2, which has no words).

A text without any such place, such as a word of millions of letters, is encoded whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jobctl.prep.encode.encoder import PART, Encoder
from jobctl.prep.encode.identity import nfc
from jobctl.prep.encode.look import Look
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids

WINDOW = 1 << 16
"""Characters that are split into words in one call."""
BEFORE_PUNCTUATION = re.compile(
    r"[^\W_][\s!-/:-@\[-`{-~\u2010-\u2027\u3001-\u3003\uff01\uff0c\uff1a\uff1b\uff1f]"
)
"""A letter or digit, and then a character that is neither in any version of Unicode."""
RUNS = (re.compile(r"[^\W\d_]+"), re.compile(r"(?:[^\w\s]|_)+"), re.compile(r"\d+"))
"""Letters, punctuation and digits: a word has no end inside such a run, or ends everywhere in it."""
SPACE = "\u2581"
"""The space in the vocabulary of SentencePiece."""


class Part(NamedTuple):
    """A part of a text. With ``goes_on`` it begins inside the text, so no space may be put in front of it."""

    text: str
    goes_on: bool = False


def between_words(text: str, begin: int, end: int) -> int | None:
    """Return the last place in [begin, end) with a space between two letters."""
    place = text.rfind(" ", begin, end)
    while place > 0 and not (text[place - 1].isalpha() and text[place + 1 : place + 2].isalpha()):
        place = text.rfind(" ", begin, place)
    return place if place > 0 else None


def before_punctuation(text: str, begin: int, end: int) -> int | None:
    """Return the last place in (begin, end] between a letter or digit and punctuation or a space."""
    stop = min(end + 1, len(text))
    while stop - begin > 1:
        start = max(begin, stop - WINDOW)
        places = [match.start() + 1 for match in BEFORE_PUNCTUATION.finditer(text, start, stop)]
        if places:
            return places[-1]

        # One character is in both windows, because the two wanted ones may be in one window each.
        stop = start + 1 if start > begin else begin

    return None


def run_end(text: str, place: int) -> int:
    """Return the end of the run of letters, punctuation or digits that continues at ``place``."""
    ends = (run.match(text, place) for run in RUNS)
    return next((match.end() for match in ends if match), place)


def after_a_word(text: str, begin: int, end: int, words: Callable[[str], list[int]]) -> int | None:
    """Return the last place in (begin, end] where a word ends. ``begin`` must be such a place.

    ``words`` returns the ends of the words in a text. Its rules look as far as the first character of the
    next word. So the last two words of a window are not used: more text could change them. A cut is never
    after a space, because the next character decides to which word the space belongs.
    """
    place = begin
    cut = None
    size = WINDOW

    while place + 1 < end:
        stop = min(place + size, len(text))
        ends = [place + offset for offset in words(text[place:stop])[:-2]]
        inside = [offset for offset in ends if offset <= end]
        cut = next((offset for offset in reversed(inside) if not text[offset - 1].isspace()), cut)

        if inside and len(inside) == len(ends):
            place = inside[-1]
            size = WINDOW
        elif ends or stop == len(text):
            # The next word ends behind the part, or the text has no further word's end.
            break
        elif (last := run_end(text, stop - 1)) > stop:
            if last > end:
                break

            # One word fills the window. Its end is the run's, which the words from inside the run have, too.
            place = last - 2
        else:
            # No word ends in this window, so the next one is wider.
            size *= 2

    return cut


class Pairs:
    """The pairs of characters that stand side by side in some token of a vocabulary."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._pairs = {token[i : i + 2] for token in vocabulary for i in range(len(token) - 1)}

    def last_cut(self, text: str, begin: int, end: int) -> int | None:
        """Return the last place in (begin, end) between two characters that no token joins."""
        for place in range(end - 1, begin, -1):
            # The vocabulary writes a space as a character of its own.
            if text[place - 1 : place + 1].replace(" ", SPACE) not in self._pairs:
                return place
        return None


class LongTexts:
    """Encode with another encoder, at most one part at a time."""

    def __init__(
        self, encoder: Encoder, reference: ReferenceEncoder, file: TokenizerFile, part: int = PART
    ) -> None:
        self.name = encoder.name
        self._encoder = encoder
        self._reference = reference
        self._file = file
        self._part = part
        self._pairs: Pairs | None = None
        self._going_on: ReferenceEncoder | None = None

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        if all(len(text) <= self._part for text in texts):
            return self._encoder.encode(texts, looks)
        return [self._whole(text) for text in texts]

    def _whole(self, text: str) -> Ids:
        """Encode a text in parts. Like the reference, take the control tokens out first."""
        pieces: list[Ids] = []
        for number, segment in enumerate(self._file.segments(text)):
            # Segments take turns: text, control token, text, and so on.
            if number % 2:
                pieces.append(np.array([self._file.control_ids[segment]], np.uint32))
            else:
                pieces += [self._encoded(part) for part in self.parts(segment)]

        return np.concatenate(pieces)

    def _encoded(self, part: Part) -> Ids:
        encoder: Encoder = self._encoder
        if part.goes_on and self._file.puts_a_space_first:
            if self._going_on is None:
                self._going_on = ReferenceEncoder(self._file, prefix=False)

            encoder = self._going_on

        return encoder.encode([part.text])[0]

    def parts(self, text: str) -> list[Part]:
        """Cut a text that has no control token."""
        if self._file.is_nfc:
            # Words are those of the normalised text.
            text = nfc(text)

        places = [0]
        while len(text) - places[-1] > self._part:
            cut = self._next_cut(text, places[-1])
            if cut is None:
                break

            places.append(cut)

        ends = [*places[1:], len(text)]

        return [self._part_of(text, begin, end) for begin, end in zip(places, ends, strict=True)]

    def _part_of(self, text: str, begin: int, end: int) -> Part:
        if begin and self._file.puts_a_space_first and text[begin] == " ":
            # The encoder puts this space in front itself.
            return Part(text[begin + 1 : end])
        return Part(text[begin:end], goes_on=begin > 0)

    def _next_cut(self, text: str, begin: int) -> int | None:
        end = begin + self._part
        cut = between_words(text, begin + 1, end)
        if cut is None and self._file.pre_tokenizer:
            cut = before_punctuation(text, begin, end)
            cut = cut or after_a_word(text, begin, end, self._reference.words)
        elif cut is None:
            # Made at the first use, because few jobs have such a text.
            self._pairs = self._pairs or Pairs(self._file.vocabulary())
            cut = self._pairs.last_cut(text, begin, end)

        if cut is not None or end >= len(text):
            return cut

        return self._later_cut(text, begin, end)

    def _later_cut(self, text: str, begin: int, end: int) -> int | None:
        """Return the first place after a part that is shorter than its first word."""
        stop = end
        while stop < len(text):
            stop = min(len(text), stop + self._part)
            cut = between_words(text, end, stop)
            if cut is None and self._file.pre_tokenizer:
                cut = before_punctuation(text, end, stop)
                cut = cut or after_a_word(text, begin, stop, self._reference.words)
            elif cut is None and self._pairs:
                cut = self._pairs.last_cut(text, end, stop)

            if cut is not None:
                return cut

        return None

"""The interface of an encoder, and small steps around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jobctl.jobs.catalog.data import EncoderName
from jobctl.prep.encode.look import Look
from jobctl.prep.shards.format import Ids

NO_IDS: Ids = np.empty(0, np.uint32)
PART = 4 << 20
"""The most characters that an encoder gets at once. A longer text is cut (see ``long_texts``)."""


class Encoder(Protocol):
    """Turn texts into token ids, without BOS, EOS or other additions."""

    name: EncoderName

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        """Return the ids of each text, each of shape [tokens].

        ``looks`` are the known facts about the texts, so that an encoder need not look through them again. In
        the look of a text that is longer than ``PART`` the UTF-8 may be empty.
        """
        ...


def differing(reference: Encoder, encoder: Encoder, texts: Sequence[str]) -> int | None:
    """Return the index of the first text that the two encode differently, or None."""
    expected = reference.encode(texts)
    actual = encoder.encode(texts)

    for index, (right, tried) in enumerate(zip(expected, actual, strict=True)):
        if not np.array_equal(right, tried):
            return index

    return None


def count_of(ids: Ids, wanted: npt.NDArray[np.uint32]) -> int:
    """Return the number of ids, shape [tokens], that are in ``wanted``, which is sorted, shape [ids]."""
    if not len(wanted):
        return 0

    # Control tokens are the last ids of a vocabulary, so nearly all ids are done with one comparison.
    return int(np.isin(ids[ids >= wanted[0]], wanted).sum())


def with_ends(texts: Sequence[Ids], eos_id: int, bos_id: int | None) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Join encoded texts, each with its EOS, and with a BOS unless ``bos_id`` is None.

    Return the ids, shape [tokens], and the length of each document, shape [documents].
    """
    begin = np.array([] if bos_id is None else [bos_id], np.uint32)
    end = np.array([eos_id], np.uint32)

    pieces = [piece for text in texts for piece in (begin, text, end)]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + len(begin) + len(end)

    # An empty first piece keeps the type right if there is no text.
    return np.concatenate([end[:0], *pieces]), lengths

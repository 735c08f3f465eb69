"""Read the ids of a file once: their number, the count of each id, and the hash of the bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import Meta, TokenType, numpy_dtype

CHUNK = 8 << 20
"""Bytes read at once: a multiple of both token sizes."""
RICH = 4000
"""A text with more different ids than this must have some of the vocabulary's upper part.

In English one in eight is.
"""


class Survey(NamedTuple):
    """The content of a file of ids. ``counts`` has shape [vocabulary]."""

    tokens: int
    sha256: str
    counts: npt.NDArray[np.int64]


def survey(path: Path, dtype: TokenType, vocab_size: int) -> Survey:
    """Read a file of ids.

    Raises UserError for a size that does not fit, and for an id outside the vocabulary.
    """
    digest = hashlib.sha256()
    counts = np.zeros(vocab_size, np.int64)
    itemsize = np.dtype(dtype).itemsize
    tokens = 0

    try:
        size = path.stat().st_size
        if size % itemsize:
            raise UserError(
                f"{path}: {size} bytes are not a whole number of {dtype} ids",
                hint="name their type with --dtype",
            )

        with open(path, "rb") as file:
            # The file is read once for the hash, the check and the counts: it may be larger than memory.
            while data := file.read(CHUNK):
                digest.update(data)
                ids = np.frombuffer(data, numpy_dtype(dtype))
                check_ids(path, ids, vocab_size, tokens)
                counts += np.bincount(ids, minlength=vocab_size)
                tokens += len(ids)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}", code=1) from None

    return Survey(tokens, digest.hexdigest(), counts)


def check_ids(path: Path, ids: npt.NDArray[Any], vocab_size: int, before: int) -> None:
    """Raise UserError for the first id outside the vocabulary.

    ``before`` is the number of tokens before these.
    """
    wrong = np.flatnonzero(ids >= vocab_size)
    if len(wrong):
        place = int(wrong[0])
        raise UserError(
            f"{path}: token {before + place} is {int(ids[place])}, but the tokenizer has {vocab_size} ids",
            hint="another --tokenizer made this file, or its ids are of another --dtype",
        )


def id_problems(counts: npt.NDArray[np.int64], meta: Meta) -> list[str]:
    """Return problems that the histogram of ids shows.

    Ids that were cut to 16 bits leave the upper part empty.
    """
    cut = 1 << 16
    # Ids from EOS on are special or added tokens, which a text need not have.
    ordinary = min(meta.vocab_size, meta.eos_id)
    different = int(np.count_nonzero(counts[:cut]))
    if ordinary > cut and different > RICH and not counts[cut:ordinary].any():
        return [f"none of {different} different ids is {cut} or above: the ids were cut to 16 bits"]

    return []

"""Read Megatron-LM's indexed data sets.

``NAME.bin`` holds the ids, ``NAME.idx`` the places of sequences and documents.

The index is little-endian. It begins with 9 bytes that name it, the version (8 bytes), the code of the type
(1 byte), and the numbers of sequences and of document marks (8 bytes each). Then come the lengths of the
sequences (4 bytes each), their places in bytes (8 bytes each), and the document marks (8 bytes each): the
first sequence of every document, and the end.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import TokenType

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
TYPES: dict[int, TokenType] = {4: "uint32", 8: "uint16"}
"""Types of ids that we read in place. No id is negative, so int32 has the same bits as uint32."""
NAMES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}


class Index(NamedTuple):
    """The facts of an index about its ``.bin``."""

    dtype: TokenType
    tokens: int
    documents: int


def read_index(path: Path) -> Index:
    """Read and check ``NAME.idx``. Raises UserError with the reason why the data cannot be used in place."""
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None

    if len(data) < HEADER.size:
        raise UserError(f"{path} is not an index of Megatron: it has {len(data)} bytes")

    magic, version, code, sequences, marks = HEADER.unpack(data[: HEADER.size].tobytes())
    if magic != MAGIC or version != VERSION:
        raise UserError(f"{path} is not an index of Megatron, or its version is not {VERSION}")

    if code not in TYPES:
        raise UserError(
            f"{path}: its ids are {NAMES.get(code, f'of type {code}')}; training in place needs uint16 or int32",
            hint="prepare the text again with python -m jobctl.prep",
        )

    # A sequence has a length of 4 bytes and a place of 8 bytes, and a document has a mark of 8 bytes.
    expected = HEADER.size + 12 * sequences + 8 * marks
    if len(data) < expected:
        raise UserError(f"{path} is cut: {len(data)} bytes of {expected}", hint="copy it again")

    return checked_index(path, TYPES[code], data, sequences, marks)


def checked_index(
    path: Path, dtype: TokenType, data: npt.NDArray[np.uint8], sequences: int, marks: int
) -> Index:
    """Return the index if its sequences fill the file of ids without a gap. Otherwise raise UserError."""
    lengths_end = HEADER.size + 4 * sequences
    places_end = lengths_end + 8 * sequences
    # Copied by tobytes: behind a header of 34 bytes no number is aligned.
    lengths = np.frombuffer(data[HEADER.size : lengths_end].tobytes(), "<i4").astype(np.int64)
    places = np.frombuffer(data[lengths_end:places_end].tobytes(), "<i8")
    documents = np.frombuffer(data[places_end : places_end + 8 * marks].tobytes(), "<i8")

    ends = np.cumsum(lengths) * np.dtype(dtype).itemsize
    begins = np.concatenate([[0], ends[:-1]]) if sequences else ends
    if (lengths < 0).any() or not np.array_equal(places, begins):
        raise UserError(
            f"{path}: its sequences are not end to end in the order of the index",
            hint="only a .bin that is read from its beginning to its end can be used in place",
        )

    if marks and (documents[0] != 0 or (np.diff(documents) < 0).any() or documents[-1] > sequences):
        raise UserError(f"{path}: its documents are not in the order of its sequences")

    # The last mark is the end of the last document, not the begin of another one.
    return Index(dtype, int(lengths.sum()), max(marks - 1, 0))

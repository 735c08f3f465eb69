"""Write Megatron-LM's indexed data sets, as its preprocess_data.py does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CODES = {"uint8": 1, "int32": 4, "int64": 5, "uint16": 8}


def write(prefix: Path, documents: Sequence[Sequence[int]], dtype: str = "uint16") -> Path:
    """Write ``prefix.bin`` and ``prefix.idx``: a sequence for each document. Return the index."""
    lengths = np.array([len(document) for document in documents], "<i4")
    ends = np.cumsum(lengths.astype(np.int64)) * np.dtype(dtype).itemsize
    places = np.concatenate([[0], ends[:-1]]).astype("<i8")
    marks = np.arange(len(documents) + 1, dtype="<i8")

    prefix.parent.mkdir(parents=True, exist_ok=True)
    ids = np.concatenate([np.array(document, dtype) for document in documents])
    prefix.with_suffix(".bin").write_bytes(ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    header = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, CODES[dtype], len(documents), len(marks))
    index = prefix.with_suffix(".idx")
    index.write_bytes(header + lengths.tobytes() + places.tobytes() + marks.tobytes())
    return index

"""The table of a checkpoint: the type and shape of each tensor, and the place of its bytes in the files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import msgspec
import torch

TABLE_FORMAT = 1
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A name that stays in its folder."""

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by their names in safetensors."""
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Segment(msgspec.Struct, frozen=True):
    """A block of a tensor: its place in the tensor, and the file and bytes that hold it."""

    file: str
    begin: int
    end: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    xxh3_128: str = ""
    """Checksum of the bytes.

    It is empty in checkpoints of the older format, whose files have a SHA-256 instead.
    """

    @property
    def first_row(self) -> int:
        return self.offsets[0] if self.offsets else 0

    @property
    def rows(self) -> int:
        """Number of indices along the first dimension. A scalar is one row."""
        return self.sizes[0] if self.sizes else 1


class TensorEntry(msgspec.Struct, frozen=True):
    """One tensor: the name of its type in safetensors, its whole shape, and its segments in any order."""

    dtype: str
    shape: tuple[int, ...]
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        return row_count(self.shape)

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.shape, DTYPES[self.dtype])


class Table(msgspec.Struct, frozen=True):
    """``table.json``."""

    tensors: dict[str, TensorEntry]
    format: int = TABLE_FORMAT


def row_count(shape: Iterable[int]) -> int:
    """Return the number of indices along the first dimension. A scalar is one row."""
    return next(iter(shape), 1)


def row_bytes(shape: Iterable[int], dtype: torch.dtype) -> int:
    """Return the bytes of one index along the first dimension."""
    return math.prod(list(shape)[1:]) * dtype.itemsize


def problems_of(table: Table, file_sizes: Mapping[str, int]) -> list[str]:
    """Return one line for each tensor whose entry cannot be right."""
    return [
        f"{name}: {problem}"
        for name, entry in table.tensors.items()
        if (problem := entry_problem(entry, file_sizes))
    ]


def entry_problem(entry: TensorEntry, file_sizes: Mapping[str, int]) -> str:
    """Return the first problem of a tensor's entry, or an empty text."""
    if entry.dtype not in DTYPES:
        return f"its type {entry.dtype} is unknown"

    if any(size < 0 for size in entry.shape):
        return f"its shape {list(entry.shape)} is impossible"

    for segment in entry.segments:
        if problem := segment_problem(segment, entry, file_sizes):
            return problem

    next_row = 0

    # The segments must cover all rows exactly once. Otherwise a part of the tensor would keep its old values.
    for segment in sorted(entry.segments, key=lambda segment: segment.first_row):
        if segment.first_row != next_row:
            return f"its rows from {min(segment.first_row, next_row)} on are missing or stored twice"

        next_row += segment.rows

    return "" if next_row == entry.rows else f"its rows from {next_row} on are missing"


def segment_problem(segment: Segment, entry: TensorEntry, file_sizes: Mapping[str, int]) -> str:
    """Return the first problem of one segment, or an empty text. This version stores and reads whole rows."""
    whole_rows = (
        len(segment.offsets) == len(segment.sizes) == len(entry.shape)
        and segment.sizes[1:] == entry.shape[1:]
        and not any(segment.offsets[1:])
        and segment.first_row >= 0
        and segment.rows > 0
    )

    if not whole_rows:
        return f"a segment of {list(segment.sizes)} at {list(segment.offsets)} is not a block of its rows"

    if segment.file not in file_sizes:
        return f"its file {segment.file} is not one of the checkpoint's"

    # Compared with the file's size, so that no read goes past its end.
    inside = 0 <= segment.begin <= segment.end <= file_sizes[segment.file]
    if not inside or segment.end - segment.begin != segment.rows * entry.row_bytes:
        return f"bytes {segment.begin} to {segment.end} of {segment.file} cannot hold it"

    return ""

"""Sorted runs: sort data that is larger than memory through files, each of which holds a sorted part.

A run is a ``.npy`` file of unsigned 64-bit columns, shape [columns, rows], sorted by the first column. Its
values are hashes, spread evenly over 64 bits. So part p of P of all values lies between the same two edges in
every run.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobctl.jobs.core.durable import write_whole

Columns = npt.NDArray[np.uint64]


def run_file(folder: Path, index: int, number: int) -> Path:
    """Return the path of run ``number`` of unit ``index``."""
    return folder / f"{index:05d}-{number:05d}.npy"


def write_run(path: Path, columns: Columns) -> None:
    """Write columns, shape [columns, rows], that are sorted by the first."""
    buffer = io.BytesIO()
    np.save(buffer, columns)
    write_whole(path, buffer.getvalue())


def edges(part: int, parts: int, pieces: int = 1) -> list[int]:
    """Return the ``pieces`` + 1 values that bound the pieces of part ``part``. The last value can be 2^64."""
    whole = parts * pieces
    return [(1 << 64) * piece // whole for piece in range(part * pieces, (part + 1) * pieces + 1)]


def places(columns: Columns, bounds: list[int]) -> list[int]:
    """Return the row of each bound."""
    # This is one more than the largest 64-bit number, so numpy cannot hold it.
    last = 1 << 64
    rows = columns.shape[1]
    return [rows if bound == last else int(np.searchsorted(columns[0], np.uint64(bound))) for bound in bounds]


def between(paths: Iterator[Path], low: int, high: int) -> Columns:
    """Return all rows of the runs from ``low`` up to below ``high``, in the runs' order, shape [columns, rows]."""
    slices = []
    for path in paths:
        # The file is mapped, so that only the pages of these rows are read.
        columns = np.load(path, mmap_mode="r")
        begin, end = places(columns, [low, high])
        slices.append(np.array(columns[:, begin:end]))

    return np.concatenate(slices, axis=1)

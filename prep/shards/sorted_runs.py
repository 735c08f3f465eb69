"""Sorted runs: what is larger than memory is put in order through files that each hold a sorted part of it.

A run is a ``.npy`` file of unsigned 64-bit columns, shape [columns, rows], sorted by the first, whose values are
spread evenly over 64 bits (hashes). So part p of P of all values lies between the same two edges in every run.
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
    """Run ``number`` of unit ``index``."""
    return folder / f"{index:05d}-{number:05d}.npy"


def write_run(path: Path, columns: Columns) -> None:
    """Write columns, shape [columns, rows], that are sorted by the first."""
    buffer = io.BytesIO()
    np.save(buffer, columns)
    write_whole(path, buffer.getvalue())


def edges(part: int, parts: int, pieces: int = 1) -> list[int]:
    """The values that bound each of the ``pieces`` of part ``part``: ``pieces`` + 1 of them, up to 2^64."""
    whole = parts * pieces
    return [(1 << 64) * piece // whole for piece in range(part * pieces, (part + 1) * pieces + 1)]


def places(columns: Columns, bounds: list[int]) -> list[int]:
    """The row at which each bound falls."""
    last = 1 << 64
    rows = columns.shape[1]
    return [rows if bound == last else int(np.searchsorted(columns[0], np.uint64(bound))) for bound in bounds]


def between(paths: Iterator[Path], low: int, high: int) -> Columns:
    """All rows of the runs from ``low`` up to below ``high``, in the runs' order, shape [columns, rows]."""
    found = []
    for path in paths:
        columns = np.load(path, mmap_mode="r")
        begin, end = places(columns, [low, high])
        found.append(np.array(columns[:, begin:end]))

    return np.concatenate(found, axis=1)

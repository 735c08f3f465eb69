"""Sorted runs: parts of all files together hold every row once, in order."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.shards.sorted_runs import Columns, between, edges, places, run_file, write_run

LAST = 1 << 64


def hashes(rows: int, seed: int) -> Columns:
    """Return two columns: sorted hashes, and the number of each row."""
    generator = np.random.default_rng(seed)
    keys = np.sort(generator.integers(0, LAST, rows, dtype=np.uint64))
    return np.stack([keys, np.arange(rows, dtype=np.uint64)])


@pytest.mark.parametrize("parts", [1, 3, 7, 64])
@pytest.mark.parametrize("pieces", [1, 5])
def test_parts_join_without_a_gap(parts: int, pieces: int) -> None:
    bounds = [edges(part, parts, pieces) for part in range(parts)]

    assert bounds[0][0] == 0
    assert bounds[-1][-1] == LAST
    assert all(one[-1] == other[0] for one, other in itertools.pairwise(bounds))
    assert all(len(one) == pieces + 1 for one in bounds)
    assert all(sorted(one) == one for one in bounds)


def test_the_last_bound_is_beyond_every_value() -> None:
    """2^64 does not fit into the column's type, so it is no value to search for."""
    columns = np.array([[0, 5, 2**64 - 1]], np.uint64)

    assert places(columns, [0, 5, 6, LAST]) == [0, 1, 2, 3]


@pytest.mark.parametrize("parts", [1, 2, 13])
def test_every_row_is_in_one_part(tmp_path: Path, parts: int) -> None:
    runs = [hashes(500, seed) for seed in range(4)]
    paths = [run_file(tmp_path, 0, number) for number in range(4)]
    for path, run in zip(paths, runs, strict=True):
        write_run(path, run)

    pieces = []
    for part in range(parts):
        low, high = edges(part, parts)
        piece = between(iter(paths), low, high)
        assert all(low <= int(key) < high for key in piece[0])
        pieces.append(piece)

    seen = sorted(np.concatenate(pieces, axis=1)[0].tolist())
    assert seen == sorted(np.concatenate(runs, axis=1)[0].tolist())


def test_rows_come_in_the_order_of_the_runs(tmp_path: Path) -> None:
    """Which of two duplicates is the first follows from it."""
    equal = np.array([[7, 7], [0, 1]], np.uint64)
    paths = [run_file(tmp_path, unit, 0) for unit in (0, 1)]
    write_run(paths[0], equal)
    write_run(paths[1], equal + np.array([[0], [10]], np.uint64))

    assert between(iter(paths), 0, 8)[1].tolist() == [0, 1, 10, 11]


def test_an_empty_run_is_a_run(tmp_path: Path) -> None:
    path = run_file(tmp_path, 3, 1)
    write_run(path, np.empty((2, 0), np.uint64))

    assert between(iter([path]), 0, LAST).shape == (2, 0)


def test_the_names_of_runs_sort_by_unit_and_number(tmp_path: Path) -> None:
    names = [run_file(tmp_path, unit, number).name for unit in (2, 10) for number in (9, 11)]

    assert names == sorted(names)
    assert len(set(names)) == 4

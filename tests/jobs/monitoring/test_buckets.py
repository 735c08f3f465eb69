"""A long log in few buckets."""

from __future__ import annotations

import itertools
import math
import random

from jobctl.jobs.monitoring.buckets import Grid, band, grid_for, places, rounded, spread_out


def test_a_short_run_has_a_bucket_a_step() -> None:
    assert grid_for(3, 720).ends == [1, 2, 3]
    assert grid_for(0, 720).ends == [1]
    assert grid_for(100_000, 720).ends[-1] == 100_000
    assert len(grid_for(100_000, 720).ends) == 720


def test_each_value_is_in_one_bucket_and_spikes_stay() -> None:
    generator = random.Random(0)
    values = [generator.random() for _ in range(1000)]
    values[777] = 50.0
    grid = grid_for(1000, 30)
    result = band(values, places(range(1, 1001), grid))
    assert max(v for v in result.high if v is not None) == 50.0
    ends = [0, *grid.ends]
    for i, (begin, end) in enumerate(itertools.pairwise(ends)):
        part = values[begin:end]
        assert result.low[i] == rounded(min(part))
        assert result.mean[i] == rounded(sum(part) / len(part))


def test_missing_steps_and_values_leave_gaps() -> None:
    upto = places([1, 2, 9], Grid(last=10, count=5))
    assert upto == [2, 2, 2, 2, 3]
    result = band([1.0, math.nan, math.inf], upto)
    assert result.mean == [1.0, None, None, None, None]
    assert band([], [0, 0]).mean == [None, None]


def test_numbers_are_as_long_as_can_be_seen() -> None:
    assert rounded(3.14159265) == 3.1416
    assert rounded(0.000123456, 4) == 0.0001235


def test_few_are_kept_whole_and_many_are_spread() -> None:
    assert spread_out(3, 5) == [0, 1, 2]
    assert spread_out(101, 5) == [0, 25, 50, 75, 100]

"""Which intervals a figure is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.monitoring.history import Interval
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.monitoring.steady import RECENT, mean, rate, recent, split, steady
from tests.jobs.monitoring.runs import write_run


def test_warm_up_and_the_first_interval_are_left_out(tmp_path: Path) -> None:
    chosen = steady(RunLog(write_run(tmp_path / "r", steps=200)).read())
    assert (chosen.warmup, chosen.is_whole) == (20, False)
    assert [i.iter for i in chosen.intervals] == list(range(30, 201, 10))


@pytest.mark.parametrize("skip", [None, 0, 100])
def test_a_run_of_one_interval_has_that_one(tmp_path: Path, skip: int | None) -> None:
    chosen = steady(RunLog(write_run(tmp_path / "r", steps=10)).read(), skip)
    assert ([i.iter for i in chosen.intervals], chosen.is_whole) == ([10], True)


def test_now_is_the_newest_intervals_without_the_first() -> None:
    intervals = [Interval(iter=step) for step in range(1, 9)]
    assert [i.iter for i in recent(intervals)] == [4, 5, 6, 7, 8]
    assert [i.iter for i in recent(intervals[:3])] == [2, 3]
    assert [i.iter for i in recent(intervals[:1])] == [1]
    assert (recent([]), RECENT) == ([], 5)


def test_a_long_interval_counts_more() -> None:
    intervals = [
        Interval(iter=1, steps=1, dt_ms=1000.0, compute_ms=500.0, tokens_per_sec=10.0),
        Interval(iter=10, steps=9, dt_ms=100.0, compute_ms=100.0, tokens_per_sec=100.0),
    ]
    assert mean(intervals, "dt_ms") == pytest.approx(190.0)
    assert rate(intervals) == pytest.approx(100 / 1.9)
    assert split(intervals)["compute"] == pytest.approx(140 / 190)
    assert (rate([]), split([])) == (None, {})

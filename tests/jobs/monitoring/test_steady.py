"""Which intervals a figure is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.monitoring.history import History, Interval, Segment, Step
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.monitoring.steady import (
    RECENT,
    mean,
    of_newest_attempt,
    rate,
    recent,
    split,
    steady,
    warmup_steps,
)
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


def run_of(last: int, *resumed: int) -> History:
    """Return a run with an interval of ten steps each, and an attempt for each step that it resumed from."""
    intervals = [Interval(step, steps=10, dt_ms=1.0) for step in range(10, last + 1, 10)]
    segments = [Segment(file="", began=None, resumed_from=step, last=step) for step in (None, *resumed)]
    return History(name="r", path=Path(), steps=[Step(last)], intervals=intervals, segments=segments)


@pytest.mark.parametrize(("last", "warmup"), [(9, 0), (10, 1), (200, 20), (499, 49), (500, 50), (9000, 50)])
def test_a_warm_up_is_a_tenth_of_a_short_run_and_fifty_steps_of_a_long_one(last: int, warmup: int) -> None:
    assert warmup_steps(run_of(last)) == warmup


def test_an_interval_that_begins_in_the_warm_up_does_not_count() -> None:
    """Of a warm-up of 20 steps the third interval begins just after it."""
    assert [i.iter for i in steady(run_of(200)).intervals][:2] == [30, 40]
    assert [i.iter for i in steady(run_of(200), skip=21).intervals][:2] == [40, 50]


def test_the_first_interval_after_each_resumption_compiles_anew() -> None:
    chosen = steady(run_of(200, 60, 120)).intervals
    assert [i.iter for i in chosen if i.iter in (60, 70, 80, 120, 130, 140)] == [60, 80, 120, 140]


def test_the_present_attempt_is_that_of_the_newest_checkpoint() -> None:
    assert [i.iter for i in of_newest_attempt(run_of(100, 60, 80))] == [90, 100]
    assert len(of_newest_attempt(run_of(100))) == 10
    assert len(of_newest_attempt(run_of(100, 100))) == 10, "it has logged none yet"
    without = History(name="r", path=Path(), intervals=[Interval(10)])
    assert len(of_newest_attempt(without)) == 1


def test_a_log_without_step_times_still_has_a_rate_and_one_without_parts_has_no_shares() -> None:
    rates = [
        Interval(1, steps=1, tokens_per_sec=10.0),
        Interval(4, steps=3, tokens_per_sec=50.0),
        Interval(9),
    ]
    assert rate(rates) == pytest.approx(40.0)
    assert split([Interval(1, dt_ms=100.0)]) == {}


def test_parts_that_overlap_leave_no_rest_below_zero() -> None:
    shares = split([Interval(1, dt_ms=100.0, compute_ms=90.0, communication_ms=20.0)])
    assert (shares["other"], shares["communication"]) == (0.0, 0.2)

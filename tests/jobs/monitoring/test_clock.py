"""When the steps of a run were done."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.monitoring.clock import Clock
from jobctl.jobs.monitoring.history import History, Interval
from jobctl.jobs.monitoring.logfile import RunLog
from tests.jobs.monitoring.runs import start_line, training_lines, write_log


def test_time_is_interpolated_between_intervals() -> None:
    intervals = [Interval(10, steps=10, dt_ms=3.6e5), Interval(20, steps=10, dt_ms=7.2e5)]
    clock = Clock(History(name="r", path=Path(), intervals=intervals))
    assert [clock.at(step) for step in (0, 5, 10, 15, 20, 99)] == pytest.approx([0, 0.5, 1, 2, 3, 3])


def test_the_wait_between_attempts_is_in_it(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), *training_lines(range(1, 101))])
    write_log(tmp_path, [{"kind": "resumed", "iter": 100}, *training_lines(range(101, 201))], minutes=120)
    clock = Clock(RunLog(tmp_path).read())
    assert clock.at(100) == pytest.approx(10 / 3600)
    assert clock.at(110) == pytest.approx(2 + 1 / 3600)
    assert clock.at(200) == pytest.approx(2 + 10 / 3600)


def test_a_log_without_times_stands_still() -> None:
    clock = Clock(History(name="r", path=Path(), intervals=[Interval(10)]))
    assert clock.at(10) == 0.0

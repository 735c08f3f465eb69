"""How a run stands now, by its records and its log alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.amounts import clock
from jobctl.jobs.monitoring.glance import Glance, glance, last_warnings, newest_attempt
from jobctl.jobs.monitoring.opening import open_run
from tests.jobs.monitoring.runs import BEGAN, start_line, training_lines, write_attempt, write_log, write_run

MINUTE = 60.0
BEGIN = BEGAN.timestamp()


def look(run: Path, minutes: float = 1.0, **options: Any) -> Glance:
    opened = open_run(str(run), run)
    return glance(opened.log.read(), opened.records(), BEGIN + minutes * MINUTE, **options)


def going(run: Path, minutes: float = 0.5, steps: int = 100) -> Path:
    """A run whose log was last written ``minutes`` after its begin."""
    path = write_log(run, [start_line(), *training_lines(range(1, steps + 1))])
    os.utime(path, (BEGIN + minutes * MINUTE,) * 2)
    return run


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    write_attempt(going(tmp_path), 1)
    seen = look(tmp_path)
    assert (seen.state, seen.step, seen.max_iters, seen.attempt) == ("running", 100, 200, 1)
    assert seen.seconds_left == pytest.approx(10.0)
    assert (seen.mfu_now, seen.mfu_peak, seen.memory_gb) == (pytest.approx(0.6), 0.6, 90.0)
    assert not seen.has_ended


def test_a_log_that_falls_silent_is_told(tmp_path: Path) -> None:
    write_attempt(going(tmp_path, minutes=0.0), 1)
    assert look(tmp_path, minutes=1.9).state == "running"
    seen = look(tmp_path, minutes=3.0)
    assert (seen.state, seen.has_ended) == ("silent", False)
    assert seen.detail.startswith("nothing logged for 00:03:00; jobctl doctor")


@pytest.mark.parametrize(
    ("facts", "state", "detail", "ended"),
    [
        ({"exit_code": 0}, "finished", "", True),
        ({"exit_code": 1}, "failed", "exit code 1", True),
        ({"exit_code": 137, "reason": "out of memory"}, "failed", "exit code 137, out of memory", True),
        ({"exit_code": 200}, "stopped", "checkpointed; another", False),
        ({"exit_code": 143, "reason": "preempted"}, "stopped", "preempted; another", False),
        ({"exit_code": 143, "reason": "cancelled"}, "cancelled", "", True),
    ],
)
def test_the_record_of_an_attempt_says_how_it_ended(
    tmp_path: Path, facts: dict[str, Any], state: str, detail: str, ended: bool
) -> None:
    write_attempt(going(tmp_path), 1, end=1.0, **facts)
    seen = look(tmp_path, minutes=60)
    assert (seen.state, seen.has_ended) == (state, ended)
    assert seen.detail.startswith(detail)
    assert seen.seconds_left is None


def test_an_attempt_that_was_refused_says_nothing_of_the_run(tmp_path: Path) -> None:
    write_attempt(going(tmp_path), 1)
    write_attempt(tmp_path, 2, begin=0.1, end=0.2, exit_code=75, reason="busy")
    assert look(tmp_path).state == "running"


def test_a_requeued_run_is_waited_for(tmp_path: Path) -> None:
    write_attempt(going(tmp_path), 1, end=1.0, exit_code=200)
    write_attempt(tmp_path, 2, begin=5.0)
    assert look(tmp_path, minutes=6).state == "waiting"
    (tmp_path / "begun" / "metrics").mkdir(parents=True)
    assert look(tmp_path / "begun").state == "waiting"


def test_a_run_by_hand_is_told_by_its_log(tmp_path: Path) -> None:
    assert look(write_run(tmp_path / "a")).state == "finished"
    assert look(write_run(tmp_path / "b", status="failed")).state == "failed"
    assert look(write_run(tmp_path / "c", status="stopped")).state == "stopped"


def test_losses_that_are_no_numbers_are_unknown(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), *training_lines(range(1, 11), loss=lambda step: "nan")])
    assert look(tmp_path).loss is None


def test_the_last_warnings_cannot_steer_the_terminal(tmp_path: Path) -> None:
    log = layout.rank_log(tmp_path, 3, 0)
    log.parent.mkdir(parents=True)
    text = "2026-01-02 03:04:05,678 {} jobctl.trainer: {}\n"
    lines = [text.format("INFO", "fine"), *(text.format("WARNING", f"n{i} \x1b[2J") for i in range(5))]
    log.write_text("".join(lines))
    assert newest_attempt(tmp_path) == 3
    assert last_warnings(tmp_path, 3) == [f"warning: n{i} \\x1b[2J" for i in (2, 3, 4)]
    assert last_warnings(tmp_path, 1) == []
    assert newest_attempt(tmp_path / "gone") == 0


def test_times_read_well() -> None:
    assert [clock(s) for s in (0, 61, 86400 + 3661)] == ["00:00:00", "00:01:01", "1d 01:01:01"]

"""The mark of a run whose waiting job was cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.glance import state_of
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.runs.cancelled import cancelled_at, forget_cancelled, mark_cancelled
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.jobs.monitoring.runs import write_attempt
from tests.other_user import OTHER

Job = Callable[..., JobSpec]


def state(root: Path, run: str) -> str:
    opened = open_run(run, root)
    return state_of(opened.history(), opened.records(), time.time())[0]


def test_a_run_is_cancelled_from_its_mark_to_its_next_attempt(root: Path, job: Job) -> None:
    run = recorded(root, job("true", run="r")).path
    assert state(root, "r") == "waiting"

    mark_cancelled(run)
    assert state(root, "r") == "cancelled"

    forget_cancelled(run)
    assert state(root, "r") == "waiting"


def test_an_attempt_after_the_mark_counts_and_one_before_it_does_not(root: Path, job: Job) -> None:
    """A job may begin while it is cancelled, and a requeued one waits after an attempt."""
    run = recorded(root, job("true", run="r")).path
    write_attempt(run, 1, begin=0, end=1, exit_code=200, reason="requeued")
    mark_cancelled(run)
    assert state(root, "r") == "cancelled"

    layout.cancelled_file(run).write_text("2026-01-02T03:04:00Z\n")
    assert state(root, "r") == "stopped"


@pytest.mark.parametrize("text", ["", "yesterday", "9" * 10_000])
def test_a_mark_without_a_time_is_none(tmp_path: Path, text: str) -> None:
    layout.cancelled_file(tmp_path).write_text(text)
    assert cancelled_at(tmp_path) is None


def test_no_file_of_ours_goes_into_the_run_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: OTHER.pw_uid)
    mark_cancelled(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mark_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    mark_cancelled(tmp_path / "gone")
    forget_cancelled(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()

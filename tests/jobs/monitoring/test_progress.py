"""How far a training is, from the end of its log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring import progress as module
from jobctl.jobs.monitoring.progress import Progress, in_words, read_progress
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import JobSpec


@pytest.fixture
def run(root: Path, job: Callable[..., JobSpec]) -> Run:
    """A run of 40 steps that has written nothing yet."""
    path = runs.claim(root, "r")
    runs.write_submission(path, job("true", sets=("max_iters=40",)), "#!/bin/bash\n")
    return runs.read(root, "r")


def write_log(run: Run, text: str, second: int = 0) -> Path:
    path = layout.metrics_dir(run.path) / f"run_20260101-0000{second:02}-000.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def step(number: int, loss: object = 4.5) -> str:
    return json.dumps({"kind": "iteration", "iter": number, "loss": loss}) + "\n"


def timing(number: int, milliseconds: float) -> str:
    return json.dumps({"kind": "timing", "iter": number, "dt_ms": milliseconds}) + "\n"


def test_a_run_without_a_log_has_none(run: Run) -> None:
    assert read_progress(run) is None


def test_the_last_step_and_the_newest_rate_count(run: Run) -> None:
    write_log(run, step(1) + timing(1, 9000.0) + step(9) + step(10, 3.25) + timing(10, 500.0))
    progress = read_progress(run)
    assert progress == Progress(step=10, steps=40, loss=3.25, seconds_per_step=0.5)
    assert progress.share == 0.25
    assert progress.seconds_remaining == 15.0


@pytest.mark.parametrize(("settings", "steps"), [({"max_iters": 60}, 60), ({"of_a_later_version": 1}, 40)])
def test_a_run_that_was_made_longer_has_more_steps(run: Run, settings: dict[str, int], steps: int) -> None:
    """The status once said: step 14 of 10."""
    edit = Edit(settings=settings, time="2026-01-01T00:00:00Z", after_attempt=1)
    record = msgspec.structs.replace(run.record, edits=(edit,))
    write_log(run, step(9))
    progress = read_progress(msgspec.structs.replace(run, record=record))
    assert progress is not None
    assert progress.steps == steps


def test_an_attempt_that_has_logged_nothing_leaves_the_word_to_the_one_before(run: Run) -> None:
    write_log(run, step(7), second=1)
    write_log(run, json.dumps({"kind": "start", "run_name": "r"}) + "\n", second=2)
    progress = read_progress(run)
    assert progress is not None
    assert progress.step == 7
    assert progress.seconds_remaining is None


def test_a_torn_line_costs_that_line(run: Run) -> None:
    write_log(run, step(5) + "\0\0\0\n" + step(6) + step(7)[:9])
    progress = read_progress(run)
    assert progress is not None
    assert progress.step == 6


def test_only_the_end_of_a_long_log_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_log(run, "".join(step(number) for number in range(1, 2000)))
    monkeypatch.setattr(module, "TAIL_BYTES", 300)
    assert path.stat().st_size > 300
    progress = read_progress(run)
    assert progress is not None
    assert progress.step == 1999


@pytest.mark.parametrize("loss", ["nan", None])
def test_a_loss_that_is_no_number_is_left_out(run: Run, loss: object) -> None:
    write_log(run, step(3, loss))
    progress = read_progress(run)
    assert progress is not None
    assert progress.loss is None
    assert in_words(progress, is_going=True) == "step 3 of 40 (8%)"


def test_the_rest_of_the_time_is_said_while_it_goes_on() -> None:
    progress = Progress(step=10, steps=7210, loss=4.0, seconds_per_step=0.5)
    assert in_words(progress, is_going=True) == "step 10 of 7,210 (0%), loss 4.0000, 01:00:00 left"
    assert in_words(progress, is_going=False) == "step 10 of 7,210 (0%), loss 4.0000"

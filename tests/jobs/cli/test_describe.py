"""``jobctl describe`` ends with the commands that make sense from where the run stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.cli.describe import description, training_summary
from jobctl.jobs.monitoring.figures import Training
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.records import Attempt
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded

Job = Callable[..., JobSpec]

TRAINING = Training(
    iterations=40,
    first_loss=10.83,
    last_loss=6.32041,
    validation_loss=6.5,
    tokens_per_second=3300.4,
    mfu=0.637,
    checkpoint="/r/checkpoints/step-40",
    metrics="/r/metrics/run.json",
)


@pytest.fixture
def run(root: Path, job: Job) -> Run:
    """A run that was submitted, and whose payload has not written anything."""
    return recorded(root, job("true"))


def attempt(**fields: Any) -> Attempt:
    known = {
        "attempt": 1,
        "job_id": "7",
        "target": "local",
        "host": "h",
        "nodes": "n1",
        "pid": 1,
        "start": "2026-11-29T01:00:00Z",
    }
    return Attempt(**{**known, **fields})


def described(run: Run, state: State = "running", training: Training | None = None) -> str:
    return description(run, Status(run=run.name, state=state, target="local"), training)


@pytest.mark.parametrize(
    ("state", "commands"),
    [
        ("running", ["logs r -f", "cancel r --graceful", "wait r"]),
        ("pending", ["logs r -f", "cancel r --graceful", "wait r"]),
        ("finished", ["logs r"]),
        ("failed", ["logs r", "resume r"]),
        ("stopped", ["logs r", "resume r"]),
        ("cancelled", ["logs r", "resume r"]),
        ("lost", ["logs r", "resume r"]),
    ],
)
def test_the_next_commands_follow_from_the_state(run: Run, state: State, commands: list[str]) -> None:
    lines = described(run, state).split("next:\n")[1].splitlines()
    assert lines == [f"  jobctl {command}" for command in commands]


def test_a_checkpoint_can_be_evaluated_and_sampled(run: Run) -> None:
    text = described(run, "finished", TRAINING)
    assert "jobctl submit eval r\n" in text
    assert "jobctl submit export r\n" in text
    assert "jobctl sample r --prompt 'The state of'" in text
    without = msgspec.structs.replace(TRAINING, checkpoint=None)
    assert "sample" not in described(run, "finished", without)


def test_attempts_are_a_table_with_their_ends(run: Run) -> None:
    attempts = (
        attempt(end="2026-11-29T02:00:00Z", exit_code=200, reason="time limit"),
        attempt(attempt=2, nodes="n2"),
    )
    lines = described(msgspec.structs.replace(run, attempts=attempts)).splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("ATTEMPT"))
    assert lines[header + 1].split()[-3:] == ["200", "time", "limit"]
    assert lines[header + 2].split() == ["2", "7", "n2", "2026-11-29T01:00:00Z"]


def test_edits_are_said_with_the_attempt_before_them(run: Run) -> None:
    edit = Edit(settings={"learning_rate": 0.001}, time="2026-11-29T02:00:00+00:00", after_attempt=1)
    record = msgspec.structs.replace(run.record, edits=(edit,))
    text = described(msgspec.structs.replace(run, record=record))
    assert "edits:\n  2026-11-29T02:00:00+00:00 after attempt 1: learning_rate=0.001" in text


def test_figures_are_rounded_for_people() -> None:
    lines = {line[:16].strip(): line[17:] for line in training_summary(TRAINING).splitlines()}
    assert lines == {
        "iterations": "40",
        "training loss": "10.8300 first, 6.3204 mean of the last steps",
        "validation loss": "6.5000",
        "in steps": "3,300 tokens/s",
        "MFU": "63.7% mean",
        "checkpoint": "/r/checkpoints/step-40",
        "metrics": "/r/metrics/run.json",
    }


def test_figures_that_are_not_there_yet_have_no_line() -> None:
    early = msgspec.structs.replace(
        TRAINING,
        first_loss=None,
        last_loss=None,
        validation_loss=None,
        tokens_per_second=None,
        mfu=None,
        checkpoint=None,
    )
    assert [line.split()[0] for line in training_summary(early).splitlines()] == ["iterations", "metrics"]


def test_the_run_directory_is_named(run: Run, root: Path) -> None:
    assert f"files: {root / 'runs/r'}" in described(run)

"""One run in all commands: a figure of one name is the same, and what is only so now is called that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.analysis import analyse
from jobctl.jobs.monitoring.glance import glance
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.monitoring.report_data import analysis_rows
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_analyze import call
from tests.jobs.monitoring.runs import BEGAN, TOKENS, start_line, training_lines, write_attempt, write_log


def uneven(step: int) -> dict[str, Any]:
    """Steps of many speeds, so that no two rules give one number: slow at first, and slow again at the end."""
    milliseconds = 2000.0 if step <= 10 else 300.0 if step > 150 else 100.0 + step % 70
    return {
        "dt_ms": milliseconds,
        "tokens_per_sec": TOKENS / milliseconds * 1e3,
        "mfu": 60 / milliseconds,
        "memory_peak_gb": 80.0 + step / 100,
    }


@pytest.fixture
def run(root: Path, job: Callable[..., JobSpec]) -> str:
    """A run of 200 steps that has ended, and whose validation was scored several times."""
    path = recorded(root, job("true", run="r", sets=("max_iters=200",))).path
    begin = BEGAN.timestamp()
    seconds = {"startup": 20.0, "steps": 40.0}
    lines = [
        {"kind": "began", "attempt": 1, "launched": begin},
        start_line("r", max_iters=200),
        *training_lines(range(1, 201), timing=uneven),
        {"kind": "time", "iter": 200, "at": begin + 60, "seconds": seconds, "tokens": 200 * TOKENS},
        {"kind": "eval", "iter": 100, "set": "val-x", "val_loss": 4.0},
        {"kind": "eval", "iter": 200, "set": "val-x", "val_loss": 3.5},
        {"kind": "eval", "iter": 200, "set": "val-y", "val_loss": 9.5},
        {"kind": "summary", "iter": 200, "status": "finished"},
    ]
    log = write_log(path, lines)
    # As the trainer writes it, which the account of the time relies on.
    log.write_text(log.read_text().replace('": ', '":'))
    write_attempt(path, 1, end=5.0)
    return path.name


def facts(*words: str) -> Any:
    shown = call(*words, "--json")
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def rows(text: str) -> dict[str, str]:
    """Return lines of a name and a value, two columns apart."""
    parts = [line.strip(" │").split("  ", 1) for line in text.splitlines()]
    return {name.strip(): value.strip() for name, *rest in parts for value in rest}


def test_json_has_one_number_for_one_name(run: str, root: Path) -> None:
    analyzed = facts("analyze", run)
    described = facts("describe", run)
    assert analyzed["tokens_per_second"] not in (None, pytest.approx(analyzed["wall_tokens_per_second"]))
    for name in ("first_loss", "last_loss", "validation_loss", "tokens_per_second", "mfu"):
        assert described["training"][name] == pytest.approx(analyzed[name]), name

    assert described["goodput"]["wall_tokens_per_second"] == pytest.approx(analyzed["wall_tokens_per_second"])
    assert facts("status", run)["goodput"] == pytest.approx(described["goodput"]["share"])

    twin = write_log(
        layout.run_dir(root, "twin"), [start_line("twin", seed=1), *training_lines(range(1, 201))]
    )
    assert twin.exists()
    for name, result in facts("compare", run, "twin")["groups"][0]["results"].items():
        values = [analyzed[name]] if analyzed[name] is not None else []
        assert result["values"][:1] == pytest.approx(values), name


def test_what_people_read_has_one_number_for_one_name(run: str, root: Path) -> None:
    analyzed = rows(call("analyze", run).output)
    described = rows(call("describe", run).output)
    for name in ("training loss", "in steps"):
        assert described[name] == analyzed[name], name

    assert analyzed["validation loss"] == f"{described['validation loss']} on val-x"

    assert analyzed["MFU"].startswith(described["MFU"])
    opened = open_run(run, root)
    history = opened.log.read()
    goodput = opened.goodput()
    analysis = analyse(history, opened.records().attempts, goodput=goodput)
    assert dict(analysis_rows(analysis)) == analyzed


def test_what_a_run_does_now_is_named_so(run: str) -> None:
    analyzed = rows(call("analyze", run).output)
    seen = call("watch", "--once", "--plain", run).output
    assert "3,413 tokens/s in steps now" in seen
    assert "MFU 20.0% now" in seen
    assert "3,413" not in analyzed["in steps"]


def test_the_time_left_is_the_same_in_status_and_watch(root: Path, job: Callable[..., JobSpec]) -> None:
    path = recorded(root, job("true", run="half", sets=("max_iters=200",))).path
    write_log(path, [start_line("half", max_iters=200), *training_lines(range(1, 101), timing=uneven)])
    write_attempt(path, 1)
    left = facts("status", "half")["progress"]["seconds_remaining"]
    intervals = open_run("half", root).log.read().intervals[-5:]
    assert left == pytest.approx(100 * sum(i.dt_ms for i in intervals) / 5 / 1e3)


def test_the_time_left_after_a_resume_is_that_of_the_new_attempt(
    root: Path, job: Callable[..., JobSpec]
) -> None:
    path = recorded(root, job("true", run="half", sets=("max_iters=200",))).path
    write_log(path, [start_line("half", max_iters=200), *training_lines(range(1, 101), timing=uneven)])
    resumed = [{"kind": "resumed", "iter": 100}, start_line("half", max_iters=200)]
    # Its first interval compiles; the second one is the speed of now, on another machine than before.
    speeds = {110: {"dt_ms": 5000.0}, 120: {"dt_ms": 50.0}}
    write_log(path, [*resumed, *training_lines(range(101, 121), timing=speeds.__getitem__)], minutes=9)
    write_attempt(path, 1)
    opened = open_run("half", root)
    seen = glance(opened.log.read(), opened.records(), BEGAN.timestamp())
    assert seen.ms_per_step_now == 50.0
    assert facts("status", "half")["progress"]["seconds_remaining"] == pytest.approx(80 * 0.05)

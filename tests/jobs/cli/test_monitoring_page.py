"""docs/monitoring.md shows what its commands print today: the names of their rows, in order, and the metrics."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.cli.watch import look_at
from jobctl.jobs.monitoring.exporter import NAMES
from jobctl.jobs.monitoring.glance_text import rows
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_analyze import call
from tests.jobs.monitoring.runs import BEGAN, TOKENS, start_line, training_lines, write_attempt, write_log

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "monitoring.md").read_text(encoding="utf-8")
ROW = re.compile(r"^(\w[\w /]*?) {2,}", re.MULTILINE)
"""The name of a row: two blanks stand before its value."""


def block(command: str) -> str:
    """Return what the page shows below a command."""
    (shown,) = re.findall(rf"^```\w*\n\$ {re.escape(command)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(shown)


@pytest.fixture
def first(root: Path, job: Callable[..., JobSpec]) -> str:
    """A run like that of the page: on CPUs, on two ranks, scored, ended, with an account of its time."""
    path = recorded(root, job("true", run="first", sets=("max_iters=200",))).path
    begin = BEGAN.timestamp()
    seconds = {"startup": 20.0, "evaluation": 2.0, "checkpoint": 1.0, "steps": 37.0}
    start = start_line(
        "first", max_iters=200, model="qwen3_smoke", device="x86_64", peak_flops=None, world_size=2
    )
    steps = training_lines(range(1, 201), timing=lambda step: {"communication_ms": 1.0})
    lines = [
        {"kind": "began", "attempt": 1, "launched": begin},
        start,
        *({key: value for key, value in line.items() if key != "mfu"} for line in steps),
        {"kind": "time", "iter": 200, "at": begin + 60, "seconds": seconds, "tokens": 200 * TOKENS},
        {"kind": "eval", "iter": 200, "set": "val-x", "val_loss": 3.5, "perplexity_per_byte": 3.25},
        {"kind": "summary", "iter": 200, "status": "finished"},
    ]
    log = write_log(path, lines)
    # As the trainer writes it, which the account of the time relies on.
    log.write_text(log.read_text().replace('": ', '":'))
    write_attempt(path, 1, end=1.5)
    return path.name


def test_the_analysis_has_the_rows_that_the_command_prints(first: str) -> None:
    command = "jobctl analyze first --tokens 1e9"
    printed = call(*command.split()[1:])
    assert printed.exit_code == 0
    assert ROW.findall(block(command)) == ROW.findall(printed.stdout)


def test_the_panel_has_the_rows_that_watch_shows(first: str, root: Path) -> None:
    expected = [name for name, _ in rows(look_at(open_run(first, root)))]
    width = max(map(len, expected))
    panel = block("jobctl watch --once first").splitlines()[-1 - len(expected) : -1]
    assert [line.removeprefix("│ ")[:width].strip() for line in panel] == expected


def test_the_diagnosis_has_the_lines_that_doctor_prints(root: Path) -> None:
    command = "jobctl doctor --model qwen3_1.8b --hardware cpu --target slurm"
    printed = call(*command.split()[1:]).stdout.replace(str(root), "/tmp/root")
    shown = [line for line in block(command).splitlines() if " check" not in line]
    # Another machine may have more to say.
    assert [line for line in shown if line[3:] not in printed] == []


def test_the_page_has_every_metric_of_the_exporter() -> None:
    assert set(re.findall(r"\bjobctl_run_\w+", PAGE)) == NAMES

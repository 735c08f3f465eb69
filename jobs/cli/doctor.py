"""``jobctl doctor``: what is wrong with a run, or with this machine before one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from jobctl.jobs.cli.choices import OPTIONS, resolution, root
from jobctl.jobs.cli.output import emit, warn
from jobctl.jobs.monitoring.checks.diagnosis import RUN_CHECKS, diagnose
from jobctl.jobs.monitoring.checks.finding import Finding, RunFacts, read_logs, text
from jobctl.jobs.monitoring.checks.machine import MACHINE_CHECKS, MachineFacts, ask_gpus, examine
from jobctl.jobs.monitoring.opening import open_run

FOUND = 1
"""Exit code where a check has something to say."""


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a job; its words are the names of runs here."""
    for option in reversed(OPTIONS[1:]):
        command = option(command)

    return command


@click.command("doctor")
@click.argument("runs", metavar="[RUN…]", nargs=-1)
@job_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(runs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """What is wrong, from what is seen, and what to do.

    With RUN it reads that run's logs, while it goes on and after. Without, it looks at this machine; with --model and
    the other options of a job also at what that job needs. Its exit code is 1 where it has something to say.
    """
    if runs:
        subjects = {word: _of_run(word) for word in runs}
        count = len(RUN_CHECKS)
    else:
        subjects = {"this machine": _of_machine(options)}
        count = len(MACHINE_CHECKS)

    title = len(subjects) > 1
    parts = [(f"{name}\n" if title else "") + text(found, count) for name, found in subjects.items()]
    emit({"findings": subjects, "checks": count}, as_json, "\n\n".join(parts))
    if any(subjects.values()):
        raise SystemExit(FOUND)


def _of_run(word: str) -> list[Finding]:
    opened = open_run(word, root())
    history = opened.log.read()
    records = opened.records()
    warn([*history.notes, *records.notes])
    logs = read_logs(opened.path) if opened.path.is_dir() else {}

    return diagnose(RunFacts(history=history, records=records, logs=logs, now=time.time()))


def _of_machine(options: dict[str, Any]) -> list[Finding]:
    """Return what is wrong with this machine, for the job that the options choose where they choose one."""
    if not options["model"]:
        return examine(MachineFacts(root=root(options["site"]), gpus=ask_gpus()))

    from jobctl.jobs.cli.room import rate_doubts
    from jobctl.jobs.submission import check_inputs

    resolved = resolution(words=(), **options)
    # Advice, and no finding: the exit code stays what the checks say.
    warn(rate_doubts(resolved))
    spec = resolved.spec
    facts = MachineFacts(root=root(options["site"]), spec=spec, gpus=ask_gpus(), inputs=check_inputs)
    return examine(facts)

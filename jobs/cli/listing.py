"""``jobctl list``: list all runs, with their progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import click
import msgspec

from jobctl.jobs.cli.by_hand import all_by_hand
from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.finding import Place, find_runs, place_options
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.cli.status import shortened, statuses
from jobctl.jobs.monitoring.progress import Progress, read_progress
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.spec.job_spec import TrainSpec

Facts = dict[str, Any]
"""One line of the list, as in JSON. An unknown fact is null."""


def facts_of(run: Run, status: Status, progress: Progress | None) -> Facts:
    """Return the facts of a run that jobctl submitted."""
    spec = run.record.spec
    training = spec if isinstance(spec, TrainSpec) else None
    facts: Facts = msgspec.to_builtins(status)

    return facts | {
        "kind": run.job_kind.name,
        "model": training.model_name if training else None,
        "stage": training.stage if training else None,
        "hardware": spec.hardware,
        "step": progress.step if progress else None,
        "steps": progress.steps if progress else None,
        "loss": progress.loss if progress else None,
    }


def cells(facts: Facts, *, with_owner: bool) -> tuple[object, ...]:
    """Return a line in the form of the table."""
    return (
        facts["run"],
        facts["state"],
        facts["target"],
        facts["job_id"],
        facts["model"] or facts["kind"],
        facts["hardware"] or "",
        _step(facts["step"], facts["steps"]),
        "" if facts["loss"] is None else f"{facts['loss']:.4f}",
        facts["attempt"] or "",
        facts["start"],
        *((facts["owner"],) if with_owner else ()),
        shortened(facts["detail"]),
    )


def _step(step: int | None, steps: int | None) -> str:
    if step is None:
        return ""

    # The log of a run by hand may not give the planned number of steps.
    return f"{step:,}/{steps:,}" if steps else f"{step:,}"


HEADER = (
    "RUN",
    "STATE",
    "TARGET",
    "JOB",
    "MODEL",
    "HARDWARE",
    "STEP",
    "LOSS",
    "ATTEMPT",
    "START",
)


@click.command("list")
@place_options
@click.option(
    "--state", "states", type=click.Choice(get_args(State)), multiple=True, help="Only in this state."
)
@click.option("--model", metavar="NAME", help="Only runs of this model.")
@click.option("--newest", type=click.IntRange(min=1), metavar="N", help="Only the N newest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(
    states: tuple[str, ...], model: str | None, newest: int | None, as_json: bool, **place: Any
) -> None:
    """List all runs, the newest last. Runs that were started by hand come first."""
    chosen = [run for run in find_runs(Place(**place)) if model in (None, _model(run))]
    submitted = _lines(chosen, states, newest, strict=place["context"] is not None)
    # A user who names a target asks for runs that jobctl submitted to it.
    by_hand = [] if place["target"] else [run.facts() for run in all_by_hand(root(place["site"]))]
    kept = [
        facts
        for facts in by_hand
        if model in (None, facts["model"]) and (not states or facts["state"] in states)
    ]

    lines = [*kept, *submitted][-newest if newest else None :]
    emit(lines, as_json, _table(lines) or _none(bool(chosen or by_hand), place["site"]))


def _table(lines: Sequence[Facts]) -> str:
    """Return one line for each run. Owners have a column if a scheduler keeps them."""
    # Runs of this host have no owner, so the column would be empty.
    owned = any(facts["owner"] for facts in lines)
    header = (*HEADER, *(("OWNER",) if owned else ()), "")
    return table(header, [cells(facts, with_owner=owned) for facts in lines]) if lines else ""


def _lines(chosen: Sequence[Run], states: Sequence[str], newest: int | None, *, strict: bool) -> list[Facts]:
    known = statuses(chosen, strict=strict)
    pairs = [
        (run, status)
        for run, status in zip(chosen, known, strict=True)
        if not states or status.state in states
    ]

    # The list is cut before the progress is read, because that reads each run's log.
    shown = pairs[-newest:] if newest else pairs
    return [facts_of(run, status, read_progress(run)) for run, status in shown]


def _model(run: Run) -> str | None:
    spec = run.record.spec
    return spec.model_name if isinstance(spec, TrainSpec) else None


def _none(any_run: bool, site: str | None) -> str:
    if any_run:
        return "no run in this state"

    home = root(site)
    # A missing folder may mean a wrong root. A first user may also not have a folder yet.
    absent = "" if home.is_dir() else ", a folder that does not exist yet"
    return f"no runs in {home}{absent}; start one: jobctl submit --help"

"""``jobctl list``: all runs, with their progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import click
import msgspec

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.finding import Place, find_runs, place_options
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.cli.status import shortened, statuses
from jobctl.jobs.monitoring.progress import Progress, read_progress
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.spec.job_spec import TrainSpec


class Listed(msgspec.Struct, frozen=True):
    """One line of the list."""

    run: Run
    status: Status
    progress: Progress | None

    def facts(self) -> dict[str, Any]:
        """Return the line as JSON says it. A fact that nobody knows is null."""
        spec = self.run.record.spec
        training = spec if isinstance(spec, TrainSpec) else None
        progress = self.progress
        facts: dict[str, Any] = msgspec.to_builtins(self.status)

        return facts | {
            "kind": self.run.job_kind.name,
            "model": training.model_name if training else None,
            "stage": training.stage if training else None,
            "hardware": spec.hardware,
            "step": progress.step if progress else None,
            "steps": progress.steps if progress else None,
            "loss": progress.loss if progress else None,
        }

    def cells(self, *, with_owner: bool) -> tuple[object, ...]:
        """Return the line as the table shows it."""
        facts = self.facts()
        status = self.status
        step = f"{facts['step']:,}/{facts['steps']:,}" if self.progress else ""
        loss = "" if facts["loss"] is None else f"{facts['loss']:.4f}"
        subject = facts["model"] or facts["kind"]
        return (
            status.run,
            status.state,
            status.target,
            status.job_id,
            subject,
            facts["hardware"],
            step,
            loss,
            status.attempt or "",
            status.start,
            *((status.owner,) if with_owner else ()),
            shortened(status.detail),
        )


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
    """All runs, the newest last."""
    chosen = [run for run in find_runs(Place(**place)) if model in (None, _model(run))]
    lines = _lines(chosen, states, newest, strict=place["context"] is not None)
    emit([line.facts() for line in lines], as_json, _table(lines) or _none(chosen, place["site"]))


def _table(lines: Sequence[Listed]) -> str:
    """Return one line a run. Owners have a column where a scheduler keeps them."""
    # Runs of this host alone have no owner to show, and the column would be empty.
    owned = any(line.status.owner for line in lines)
    header = (*HEADER, *(("OWNER",) if owned else ()), "")
    return table(header, [line.cells(with_owner=owned) for line in lines]) if lines else ""


def _lines(chosen: Sequence[Run], states: Sequence[str], newest: int | None, *, strict: bool) -> list[Listed]:
    known = statuses(chosen, strict=strict)
    pairs = [
        (run, status)
        for run, status in zip(chosen, known, strict=True)
        if not states or status.state in states
    ]

    # Cut before the progress is read: that takes a look into each run's log.
    shown = pairs[-newest:] if newest else pairs
    return [Listed(run, status, read_progress(run)) for run, status in shown]


def _model(run: Run) -> str | None:
    spec = run.record.spec
    return spec.model_name if isinstance(spec, TrainSpec) else None


def _none(chosen: Sequence[Run], site: str | None) -> str:
    if chosen:
        return "no run in this state"

    return f"no runs in {root(site)}; start one: jobctl submit --help"

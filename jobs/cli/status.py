"""``jobctl status`` and ``jobctl list``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.finding import Place, find_pipeline, find_run, find_runs, pipeline_runs, place_options
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.pipeline import Pipeline
from jobctl.jobs.runs.preparation import read_preparation, summary
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.targets.registry import load_target


def statuses(found: Sequence[Run]) -> list[Status]:
    """Where runs stand, each target asked once, in the order given."""
    by_name: dict[str, Status] = {}
    for name in sorted({run.target for run in found}):
        group = [run for run in found if run.target == name]
        by_name.update((status.run, status) for status in _ask(name, group))
    return [by_name[run.name] for run in found]


def _ask(name: str, group: Sequence[Run]) -> list[Status]:
    """Ask one target. The runs of a target whose package is gone are unknown, and a list goes on."""
    try:
        target = load_target(name)
    except UserError as problem:
        return [Status(run=run.name, state="unknown", target=name, detail=problem.message) for run in group]
    return target.statuses(group)


def describe_status(status: Status) -> str:
    words = [f"{status.run}: {status.state}"]
    if status.attempt:
        words.append(f"attempt {status.attempt}")
    if status.job_id:
        words.append(f"job {status.job_id} on {status.target}")
    if status.nodes:
        words.append(status.nodes)
    return ", ".join(words) + (f"\n  {status.detail}" if status.detail else "")


def pipeline_table(pipeline: Pipeline, known: Sequence[Status]) -> str:
    """One line a run of the pipeline; ``known`` are those that have been submitted."""
    by_run = {status.run: status for status in known}
    rows = []
    for step in pipeline.steps:
        status = by_run.get(step.run)
        rows.append(
            (step.name, step.run, status.state, status.job_id, status.detail.split("\n")[0])
            if status
            else (step.name, step.run, "-", "", "not submitted")
        )
    return table(("STEP", "RUN", "STATE", "JOB", ""), rows)


@click.command("status")
@click.argument("run")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(run: str, as_json: bool, **place: Any) -> None:
    """Where a run or a pipeline stands."""
    if pipeline := find_pipeline(run, Place(**place)):
        known = statuses(pipeline_runs(pipeline, Place(**place)))
        emit({"pipeline": pipeline, "runs": known}, as_json, pipeline_table(pipeline, known))
        return
    found = find_run(run, Place(**place))
    (status,) = statuses([found])
    preparation = read_preparation(found)
    if preparation:
        facts = {**msgspec.to_builtins(status), "preparation": preparation}
        emit(facts, as_json, f"{describe_status(status)}\n  {summary(preparation)}")
    else:
        emit(status, as_json, describe_status(status))


@click.command("list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool, **place: Any) -> None:
    """All runs, the newest last."""
    found = statuses(find_runs(Place(**place)))
    rows = [(s.run, s.state, s.target, s.job_id, s.attempt or "", s.start, s.detail) for s in found]
    header = ("RUN", "STATE", "TARGET", "JOB", "ATTEMPT", "START", "")
    emit(
        found,
        as_json,
        table(header, rows) if rows else f"no runs in {root(place['site'])}; start one: jobctl submit --help",
    )

"""``jobctl status`` and ``jobctl list``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from jobctl.jobs.cli.by_hand import find_by_hand
from jobctl.jobs.cli.finding import Place, find_pipeline, find_run, pipeline_runs, place_options
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.core.errors import NotConfigured, UserError
from jobctl.jobs.core.run_times import read_goodput
from jobctl.jobs.monitoring.progress import in_words, progress_facts, read_progress
from jobctl.jobs.runs.pipeline import Pipeline
from jobctl.jobs.runs.preparation import read_preparation, summary
from jobctl.jobs.runs.records import BadRun
from jobctl.jobs.runs.store import Run, Status, unknown_status
from jobctl.jobs.targets.registry import load_target

DETAIL_WIDTH = 60
"""Characters of a run's detail that a table shows."""


def statuses(asked: Sequence[Run], *, strict: bool = False) -> list[Status]:
    """Return the statuses of runs, in the given order. Each target is asked once.

    The runs of a target that does not answer are unknown. The others are not affected. With ``strict``
    NotConfigured is raised instead: the user asks for exactly these runs, or names the cluster.
    """
    by_name: dict[str, Status] = {}
    for name in sorted({run.target for run in asked}):
        group = [run for run in asked if run.target == name]
        # Kept by name, because the answers come in groups, and the callers need their own order.
        by_name.update(zip((run.name for run in group), _ask(name, group, strict), strict=True))

    return [by_name[run.name] for run in asked]


def _ask(target: str, group: Sequence[Run], strict: bool) -> Sequence[Status]:
    try:
        return load_target(target).statuses(group)
    except UserError as error:
        # Only this error needs the user. Any other error may be gone at the next look.
        if strict and isinstance(error, NotConfigured):
            raise

        return [unknown_status(run, error) for run in group]


def pipeline_statuses(pipeline: Pipeline, place: Place) -> list[Status]:
    """Return the statuses of the submitted runs of a pipeline.

    A run that cannot be read is unknown.
    """
    known: list[Status] = []
    for step in pipeline.steps:
        try:
            step_runs = pipeline_runs(Pipeline(pipeline.name, (step,)), place)
            known += statuses(step_runs, strict=bool(place.context))
        except BadRun as error:
            known.append(Status(run=step.run, state="unknown", target="", detail=error.message))

    return known


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
    """Return one line for each run of the pipeline. ``known`` are the submitted ones."""
    by_run = {status.run: status for status in known}
    rows = []
    for step in pipeline.steps:
        status = by_run.get(step.run)
        rows.append(
            (step.name, step.run, status.state, status.job_id, shortened(status.detail))
            if status
            else (step.name, step.run, "-", "", "not submitted")
        )

    return table(("STEP", "RUN", "STATE", "JOB", ""), rows)


@click.command("status")
@click.argument("run")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(run: str, as_json: bool, **place: Any) -> None:
    """Show the state of a run or a pipeline."""
    if pipeline := find_pipeline(run, Place(**place)):
        known = pipeline_statuses(pipeline, Place(**place))
        emit({"pipeline": pipeline, "runs": known}, as_json, pipeline_table(pipeline, known))
        return

    if by_hand := find_by_hand(run, Place(**place)):
        emit(by_hand.facts(), as_json, by_hand.text())
        return

    chosen = find_run(run, Place(**place))
    (status,) = statuses([chosen], strict=True)
    facts = msgspec.to_builtins(status)
    lines = [describe_status(status)]

    preparation = read_preparation(chosen)
    if preparation:
        facts["preparation"] = preparation
        lines.append(f"  {summary(preparation)}")

    progress = read_progress(chosen)
    if progress:
        facts["progress"] = progress_facts(progress)
        lines.append(f"  {in_words(progress, is_going=status.state == 'running')}")

    goodput = read_goodput(chosen.path, time.time())
    if goodput:
        facts["goodput"] = goodput.share
        lines.append(f"  {goodput.lines()[0]}")

    emit(facts, as_json, "\n".join(lines))


def shortened(detail: str) -> str:
    """Return the first line of a detail, cut to the room in a table.

    ``status`` shows the rest.
    """
    first, _, rest = detail.partition("\n")
    if len(first) > DETAIL_WIDTH:
        return first[: DETAIL_WIDTH - 1] + "…"
    return first + (" …" if rest else "")

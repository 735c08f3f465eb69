"""``jobctl cancel`` and ``jobctl resume``."""

from __future__ import annotations

from typing import Any

import click

from jobs import runs
from jobs.catalog.errors import UserError
from jobs.cli.finding import Place, find_run, place_options
from jobs.cli.output import emit
from jobs.cli.status import statuses
from jobs.targets import target
from jobs.targets.protocol import Remote


@click.command("cancel")
@click.argument("run")
@place_options
@click.option("--graceful", is_flag=True, help="Let it finish its step and checkpoint first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cancel_command(run: str, graceful: bool, as_json: bool, **place: Any) -> None:
    """End a run's job."""
    found = find_run(run, Place(**place))
    (status,) = statuses([found])
    if status.state in runs.ENDED:
        raise UserError(f"run '{run}' is {status.state} already", code=1)
    scheduler = target(found.target)
    graceful = graceful and status.state == "running"  # what has not begun has nothing to checkpoint
    if not graceful:
        scheduler.cancel(found)
    elif isinstance(scheduler, Remote):
        scheduler.request_stop(found)
    else:
        runs.request_stop(found.path, "cancel")
    how = "asked to checkpoint and stop" if graceful else "cancelled"
    emit({"run": run, "graceful": graceful}, as_json, f"{run}: {how}; jobctl wait {run}")


@click.command("resume")
@click.argument("run")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def resume_command(run: str, as_json: bool, **place: Any) -> None:
    """Start another attempt of a run that has stopped, failed or been cancelled."""
    from jobs.submission import resume_run

    found, job_id = resume_run(find_run(run, Place(**place)))
    emit({"run": run, "job_id": job_id}, as_json, f"resumed run {run} (job {job_id} on {found.target})")

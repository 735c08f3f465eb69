"""``jobctl cancel`` and ``jobctl resume``."""

from __future__ import annotations

from typing import Any

import click

from jobctl.jobs.cli.choices import TRUST_OPTION
from jobctl.jobs.cli.finding import Place, find_pipeline, find_run, pipeline_runs, place_options
from jobctl.jobs.cli.output import emit, said_when_slow
from jobctl.jobs.cli.status import statuses
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.pipeline import Pipeline
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.targets.protocol import RemovesDead
from jobctl.jobs.targets.registry import load_target


@click.command("cancel")
@click.argument("run")
@place_options
@click.option("--graceful", is_flag=True, help="Let the run finish its step and save a checkpoint first.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove jobs and pods that a dead node keeps alive. Use it only if you know that the node is off.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cancel_command(run: str, graceful: bool, force: bool, as_json: bool, **place: Any) -> None:
    """End the job of a run, or all jobs of a pipeline that have not ended."""
    if force:
        _remove_dead(find_run(run, Place(**place)), as_json)
        return

    if pipeline := find_pipeline(run, Place(**place)):
        _cancel_pipeline(pipeline, Place(**place), graceful, as_json)
        return

    chosen = find_run(run, Place(**place))
    (status,) = statuses([chosen], strict=True)
    if status.state in runs.ENDED:
        raise _has_ended(status)

    gently = _cancel(chosen, status, graceful)
    how = "asked to checkpoint and stop" if gently else "cancelled"
    emit({"run": run, "graceful": gently}, as_json, f"{run}: {how}; jobctl wait {run}")


def _has_ended(status: Status) -> UserError:
    """Return the error for a run that cannot be cancelled.

    The detail of a lost run gives the reason why nothing remains of it.
    """
    if status.state == "lost":
        message = f"run '{status.run}' is lost: its job is gone, so there is nothing to cancel"
        return UserError(message, hint=status.detail, code=1)

    return UserError(f"run '{status.run}' is {status.state} already", code=1)


def _remove_dead(chosen: Run, as_json: bool) -> None:
    """End a run's job, and remove the parts that its scheduler cannot end because a node does not answer."""
    target = load_target(chosen.target)
    if not isinstance(target, RemovesDead):
        raise UserError(f"--force: target {chosen.target} ends jobs of dead nodes by itself")

    (status,) = statuses([chosen], strict=True)
    # The job is removed first: its controller would make a new pod for each removed one.
    if status.state not in runs.ENDED:
        target.cancel(chosen)

    removed = target.remove_dead(chosen)
    text = f"removed {', '.join(removed)}" if removed else "cancelled; no dead node holds any of its pods"
    emit({"run": chosen.name, "removed": removed}, as_json, f"{chosen.name}: {text}")


def _cancel(chosen: Run, status: Status, graceful: bool) -> bool:
    """End a run's job. Return whether it had time for a checkpoint."""
    from jobctl.jobs.submission import store_of

    # An attempt removes STOP when it begins. So STOP does not end a job that still waits.
    graceful = graceful and status.state == "running" and chosen.job_kind.checkpoints
    if graceful:
        store_of(chosen).request_stop(chosen)
    else:
        with said_when_slow(f"waiting for {chosen.name} to end; a training saves a checkpoint first"):
            load_target(chosen.target).cancel(chosen)

    return graceful


def _cancel_pipeline(pipeline: Pipeline, place: Place, graceful: bool, as_json: bool) -> None:
    """Cancel the last steps first, so that no step begins because the one before it has ended."""
    chosen = pipeline_runs(pipeline, place)
    alive = [
        pair
        for pair in zip(chosen, statuses(chosen, strict=True), strict=True)
        if pair[1].state not in runs.ENDED
    ]
    if not alive:
        raise UserError(f"pipeline '{pipeline.name}' has ended already", code=1)

    for run, status in reversed(alive):
        _cancel(run, status, graceful)

    names = [run.name for run, _ in alive]
    emit(
        {"pipeline": pipeline.name, "runs": names}, as_json, f"{pipeline.name}: cancelled {', '.join(names)}"
    )


@click.command("resume")
@click.argument("run")
@place_options
@TRUST_OPTION
@click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting for this attempt and all later ones. The run's record keeps the change.",
)
@click.option("--wait", "wait", is_flag=True, help="Follow the run to its end, and exit with the run's code.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def resume_command(
    run: str, trusted: tuple[str, ...], sets: tuple[str, ...], wait: bool, as_json: bool, **place: Any
) -> None:
    """Start another attempt of a run that has stopped, failed or been cancelled.

    jobctl renders the script again from the record. To continue a finished run: --set max_iters=N. A run of another
    user needs --trust-owner.
    """
    from jobctl.jobs.submission import resume_run

    chosen, job_id = resume_run(find_run(run, Place(**place)), trusted, sets)
    emit({"run": run, "job_id": job_id}, as_json, f"resumed run {run} (job {job_id} on {chosen.target})")
    if wait:
        from jobctl.jobs.cli.follow import follow_to_the_end

        follow_to_the_end(run, Place(**place))

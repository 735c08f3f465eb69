"""``jobctl delete`` and ``jobctl prune``: remove runs, and say what that frees."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import get_args

import click
import msgspec

from jobctl.jobs.cli.choices import TRUST_OPTION, root
from jobctl.jobs.cli.finding import Place, find_run
from jobctl.jobs.cli.output import emit, table, warn
from jobctl.jobs.cli.status import statuses
from jobctl.jobs.core.amounts import counted, short_bytes
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.removal import remove, size_of
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.targets.registry import target_entry

DAY = 86400.0
ENDED_STATES = [state for state in get_args(State) if state in runs.ENDED]


class Removal(msgspec.Struct, frozen=True):
    """One run directory that is to go, or its checkpoints alone."""

    run: str
    state: str
    bytes: int
    age_days: float


@click.command("delete")
@click.argument("names", metavar="RUN…", nargs=-1, required=True)
@click.option("--checkpoints", is_flag=True, help="Only the checkpoints: records, logs and metrics stay.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@TRUST_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def delete_command(
    names: tuple[str, ...], checkpoints: bool, yes: bool, trusted: tuple[str, ...], as_json: bool
) -> None:
    """Remove the directories of runs that have ended; first it says what that frees."""
    chosen = [find_run(name, Place()) for name in dict.fromkeys(names)]
    for run, status in zip(chosen, statuses(chosen), strict=True):
        _check_removable(run, status)

    _remove(chosen, checkpoints=checkpoints, yes=yes, trusted=trusted, as_json=as_json)


@click.command("prune")
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="Ended at least so long ago.")
@click.option(
    "--state", "states", type=click.Choice(ENDED_STATES), multiple=True, help="Ended in this state."
)
@click.option("--checkpoints", is_flag=True, help="Only the checkpoints: records, logs and metrics stay.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune_command(
    older_than: float | None, states: tuple[str, ...], checkpoints: bool, yes: bool, as_json: bool
) -> None:
    """Remove old or failed runs of this host's root; at least one of --older-than and --state says which."""
    if older_than is None and not states:
        raise UserError(
            "prune removes many runs, so say which", hint="--older-than 30, or --state failed, or both"
        )

    everything = runs.read_all(root(), tell=lambda reason: warn([f"left out: {reason}"]))
    _tell_kept(everything)
    pairs = list(zip(everything, statuses(everything), strict=True))
    # A run whose evaluation is at work is not touched, whatever the training is.
    busy = {run.path for run, status in pairs if status.state not in runs.ENDED}
    chosen = [
        run
        for run, status in pairs
        if status.state in (states or runs.ENDED)
        and not run.step
        and not _keeps(run)
        and run.path not in busy
    ]
    if older_than is not None:
        chosen = [run for run in chosen if _age_days(run) >= older_than]

    # A shared root has the runs of others. They stay, and do not keep ours from going.
    _remove(_ours_of(chosen), checkpoints=checkpoints, yes=yes, trusted=(), as_json=as_json)


def _tell_kept(everything: Sequence[Run]) -> None:
    """Say which runs prune cannot free: this host has a note of them, and a cluster's volume their files."""
    kept = sorted({run.path.name for run in everything if _keeps(run)})
    if kept:
        warn(
            [f"left out: files on a cluster's volume: {', '.join(kept)}; jobctl delete RUN says how they go"]
        )


def _ours_of(chosen: Sequence[Run]) -> list[Run]:
    """Return the runs that this user may remove, and say of each other one why it stays."""
    ours = []
    for run in chosen:
        try:
            runs.check_ours(run.path)
        except UserError as error:
            warn([f"left out: {error.message}"])
        else:
            ours.append(run)

    return ours


def _check_removable(run: Run, status: Status) -> None:
    if run.step:
        raise UserError(f"{run.name} shares the directory of its run", hint=f"jobctl delete {run.path.name}")

    if _keeps(run):
        raise UserError(
            f"run '{run.name}' is a cluster's, and its files are on the cluster's volume",
            hint=f"jobctl cancel ends it; in a pod that mounts the volume: rm -r runs/{run.path.name} below its root; "
            "what it left in the cluster: docs/kubernetes.md",
        )

    if status.state not in runs.ENDED:
        raise UserError(f"run '{run.name}' is {status.state}", hint=f"jobctl cancel {run.name}", code=1)


def _remove(
    chosen: Sequence[Run], *, checkpoints: bool, yes: bool, trusted: Sequence[str], as_json: bool
) -> None:
    # All of them are looked at before the first goes: a refusal leaves everything as it was.
    for run in chosen:
        runs.check_ours(run.path, trusted)

    removals = [
        Removal(run.name, runs.recorded_status(run).state, size_of(run.path, checkpoints), _age_days(run))
        for run in chosen
    ]
    freed = sum(removal.bytes for removal in removals)
    if not as_json and removals:
        rows = [(r.run, r.state, f"{r.age_days:.1f}", f"{r.bytes / 1e6:,.1f}") for r in removals]
        click.echo(table(("RUN", "STATE", "DAYS", "MB"), rows), err=True)

    if removals and not yes:
        subject = "the checkpoints of " if checkpoints else ""
        click.confirm(
            f"Remove {subject}{counted(len(removals), 'run')}, {short_bytes(freed)}?", abort=True, err=True
        )

    for run in chosen:
        remove(run.path, checkpoints)

    text = (
        f"removed {counted(len(removals), 'run')}, {short_bytes(freed)}" if removals else "nothing to remove"
    )
    emit({"removed": removals, "bytes": freed}, as_json, text)


def _keeps(run: Run) -> bool:
    return target_entry(run.target).keeps_records


def _age_days(run: Run) -> float:
    """Return the days since anything was written into a run directory's attempts."""
    folder = run.path / "attempts"
    written = (folder if folder.is_dir() else run.path).stat().st_mtime
    return max(0.0, (time.time() - written) / DAY)

"""``jobctl delete`` and ``jobctl prune``: remove runs, and print the freed space."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import click
import msgspec

from jobctl.jobs.cli.choices import TRUST_OPTION, root
from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.cli.output import emit, table, warn
from jobctl.jobs.cli.status import statuses
from jobctl.jobs.core.amounts import counted, short_bytes
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.targets.protocol import Remover, Removing
from jobctl.jobs.targets.removal import remover_of

DAY = 86400.0
ENDED_STATES = [state for state in get_args(State) if state in runs.ENDED]


class Removal(msgspec.Struct, frozen=True):
    """One run directory to remove, or only its checkpoints."""

    run: str
    state: str
    bytes: int
    age_days: float


class Ended(msgspec.Struct, frozen=True):
    """A run to remove, its last status, and the access that removes it."""

    run: Run
    status: Status
    remover: Remover

    @property
    def state(self) -> State:
        """Return the state in which it ended."""
        return self.remover.state(self.run, self.status)

    @property
    def age_days(self) -> float:
        """Return the days since its end."""
        return max(0.0, (time.time() - self.remover.last_sign(self.run, self.status)) / DAY)


@click.command("delete")
@click.argument("names", metavar="RUN…", nargs=-1, required=True)
@place_options
@click.option(
    "--checkpoints", is_flag=True, help="Remove only the checkpoints. Records, logs and metrics stay."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@TRUST_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def delete_command(
    names: tuple[str, ...],
    checkpoints: bool,
    yes: bool,
    trusted: tuple[str, ...],
    as_json: bool,
    **place: Any,
) -> None:
    """Remove the directories of runs that have ended. First show how much space that frees.

    For a run on Kubernetes, a pod removes the folder on the volume. Then jobctl removes the record and the ended jobs.
    """
    # A name that is given twice is removed once: the second time the run would be missing.
    named = [find_run(name, Place(**place)) for name in dict.fromkeys(names)]
    pairs = zip(named, statuses(named, strict=True), strict=True)
    chosen = [Ended(run, status, remover_of(run, root())) for run, status in pairs]
    # All runs are checked before the first is removed: a refusal must not come after half of the work.
    for each in chosen:
        _check_removable(each, trusted)

    _remove(chosen, checkpoints=checkpoints, yes=yes, as_json=as_json)


@click.command("prune")
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Remove runs that ended at least this long ago.",
)
@click.option(
    "--state",
    "states",
    type=click.Choice(ENDED_STATES),
    multiple=True,
    help="Remove runs that ended in this state.",
)
@click.option(
    "--checkpoints", is_flag=True, help="Remove only the checkpoints. Records, logs and metrics stay."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune_command(
    older_than: float | None, states: tuple[str, ...], checkpoints: bool, yes: bool, as_json: bool
) -> None:
    """Remove old or failed runs of this host's root. Choose them with --older-than, --state or both."""
    if older_than is None and not states:
        raise UserError(
            "prune removes many runs, so it needs a condition",
            hint="--older-than 30, or --state failed, or both",
        )

    everything = runs.read_all(root(), tell=lambda reason: warn([f"skipped: {reason}"]))
    pairs = list(zip(everything, statuses(everything), strict=True))
    _tell_unknown(pairs)
    # A run whose evaluation is running is not touched, in any state of its training.
    busy = {run.path for run, status in pairs if status.state not in runs.ENDED}
    chosen = [
        Ended(run, status, remover_of(run, root()))
        for run, status in pairs
        if status.state in (states or runs.ENDED) and not run.step and run.path not in busy
    ]
    if older_than is not None:
        chosen = [each for each in chosen if each.age_days >= older_than]

    # A shared root has the runs of other users. They stay, and ours are still removed.
    _remove(_removable(chosen), checkpoints=checkpoints, yes=yes, as_json=as_json, lenient=True)


def _tell_unknown(pairs: Sequence[tuple[Run, Status]]) -> None:
    """Print the runs that stay because it is unknown whether they have ended."""
    # If a scheduler does not answer, the run may still be running.
    unknown = sorted({run.path.name for run, status in pairs if status.state == "unknown"})
    if unknown:
        warn([f"skipped: it is unknown whether these runs have ended: {', '.join(unknown)}"])


def _removable(chosen: Sequence[Ended]) -> list[Ended]:
    """Return the runs that this user may remove. For each other one print the reason why it stays."""
    removable = []
    for each in chosen:
        try:
            _check_removable(each, ())
        except UserError as error:
            warn([f"skipped: {error.message}"])
        else:
            removable.append(each)

    return removable


def _check_removable(ended: Ended, trusted: Sequence[str]) -> None:
    run, status = ended.run, ended.status
    if run.step:
        raise UserError(f"{run.name} shares the directory of its run", hint=f"jobctl delete {run.path.name}")

    if status.state not in runs.ENDED:
        raise UserError(f"run '{run.name}' is {status.state}", hint=f"jobctl cancel {run.name}", code=1)

    ended.remover.check(run, trusted)


def _confirm(question: str) -> None:
    """Ask the user. Raises click.Abort for a no, and UserError if no answer is possible."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        # Ctrl-C at a terminal, or the end of an input that has no answer.
        if sys.stdin.isatty():
            raise

        raise UserError(
            "nobody can answer the question, so jobctl removed nothing",
            hint="to remove without a question: --yes",
        ) from None

    if not agreed:
        raise click.Abort


def _remove(
    chosen: Sequence[Ended], *, checkpoints: bool, yes: bool, as_json: bool, lenient: bool = False
) -> None:
    """Remove the chosen runs. With ``lenient``, runs on a volume out of reach stay."""
    with _reached(chosen, lenient) as access:
        chosen = [each for each in chosen if each.run.target in access]
        removals = [
            Removal(
                each.run.name,
                each.state,
                access[each.run.target].size(each.run, checkpoints),
                each.age_days,
            )
            for each in chosen
        ]
        freed = sum(removal.bytes for removal in removals)
        if not as_json and removals:
            rows = [(r.run, r.state, f"{r.age_days:.1f}", f"{r.bytes / 1e6:,.1f}") for r in removals]
            click.echo(table(("RUN", "STATE", "DAYS", "MB"), rows), err=True)

        # The question comes after the table, so that the user has just read its content.
        if removals and not yes:
            subject = "the checkpoints of " if checkpoints else ""
            _confirm(f"Remove {subject}{counted(len(removals), 'run')}, {short_bytes(freed)}?")

        for each in chosen:
            access[each.run.target].remove(each.run, checkpoints)

    done = f"removed {counted(len(removals), 'run')}, {short_bytes(freed)}"
    emit({"removed": removals, "bytes": freed}, as_json, done if removals else "nothing to remove")


@contextlib.contextmanager
def _reached(chosen: Sequence[Ended], lenient: bool) -> Iterator[Mapping[str, Removing]]:
    """Yield the access to the runs' files, by the names of their targets."""
    with contextlib.ExitStack() as stack:
        access: dict[str, Removing] = {}
        for name in dict.fromkeys(each.run.target for each in chosen):
            group = [each for each in chosen if each.run.target == name]
            try:
                removing = group[0].remover.removing([each.run for each in group])
                access[name] = stack.enter_context(removing)
            except UserError as error:
                if not lenient:
                    raise

                names = ", ".join(each.run.name for each in group)
                # One of several clusters may not answer. The runs of the others are still removed.
                warn([f"skipped: {names}: {error.message}"])

        yield access

"""``jobctl describe``: describe one run in full, with the useful next commands."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from jobctl.jobs.cli.by_hand import ByHand, find_by_hand
from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.cli.status import describe_status, statuses
from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.core.run_times import read_goodput
from jobctl.jobs.monitoring.figures import Training, read_training
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.edits import describe
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.job_spec import TrainSpec


@click.command("describe")
@click.argument("run")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe_command(run: str, as_json: bool, **place: Any) -> None:
    """Show all facts of a run: settings, attempts, training, files, and the next command."""
    # A run by hand has no record, so `find_run` would refuse it.
    if by_hand := find_by_hand(run, Place(**place)):
        _describe_by_hand(by_hand, as_json)
        return

    chosen = find_run(run, Place(**place))
    (status,) = statuses([chosen], strict=True)
    training = read_training(chosen.path)
    goodput = read_goodput(chosen.path, time.time())
    facts: dict[str, Any] = {
        "status": status,
        "directory": str(chosen.path),
        "record": chosen.record,
        "attempts": chosen.attempts,
        **_measured_facts(training, goodput),
    }

    emit(msgspec.to_builtins(facts), as_json, description(chosen, status, training, goodput))


def _describe_by_hand(run: ByHand, as_json: bool) -> None:
    """Print the facts in the log of a run without a record."""
    training = read_training(run.path)
    goodput = read_goodput(run.path, time.time())
    facts: dict[str, Any] = {
        "status": run.facts(),
        "directory": str(run.path),
        "record": None,
        "attempts": [],
        **_measured_facts(training, goodput),
    }
    verbs = ("analyze", "watch", "doctor", "report")
    end = [f"files: {run.path}", "next:", *(f"  jobctl {verb} {run.name}" for verb in verbs)]
    parts = [run.text(), *_measured(training, goodput), "\n".join(end)]
    emit(msgspec.to_builtins(facts), as_json, "\n\n".join(parts))


def description(run: Run, status: Status, training: Training | None, goodput: Goodput | None = None) -> str:
    """Return the whole description as text."""
    parts = [describe_status(status), *_edits(run), *_attempts(run), *_measured(training, goodput)]
    parts.append("\n".join([f"files: {_files(run)}", *_next(run, status, training)]))
    return "\n\n".join(parts)


def _measured(training: Training | None, goodput: Goodput | None) -> list[str]:
    """Return the figures of the log and the account of the time, as far as they are known."""
    return [
        *([training_summary(training)] if training else []),
        *(["\n".join(goodput.lines())] if goodput else []),
    ]


def _measured_facts(training: Training | None, goodput: Goodput | None) -> dict[str, Any]:
    """Return the same for JSON."""
    return {"training": training, "goodput": goodput_facts(goodput)}


def _files(run: Run) -> str:
    """Return the place of the run directory."""
    from jobctl.jobs.submission import store_of

    return store_of(run).location(run)


def training_summary(training: Training) -> str:
    """Return the first and last loss, the rate, and the place of the numbers."""
    rows = [("iterations", str(training.iterations))]
    if training.first_loss is not None and training.last_loss is not None:
        losses = f"{training.first_loss:.4f} first, {training.last_loss:.4f} mean of the last steps"
        rows.append(("training loss", losses))

    if training.validation_loss is not None:
        rows.append(("validation loss", f"{training.validation_loss:.4f}"))

    if training.tokens_per_second is not None:
        rows.append(("in steps", f"{training.tokens_per_second:,.0f} tokens/s"))

    if training.mfu is not None:
        rows.append(("MFU", f"{training.mfu:.1%} mean"))

    if training.checkpoint:
        rows.append(("checkpoint", training.checkpoint))

    rows.append(("metrics", training.metrics))

    return "\n".join(f"{name:<16} {value}" for name, value in rows)


def goodput_facts(goodput: Goodput | None) -> dict[str, Any] | None:
    """Return the account of a run's time for JSON; None if it is unknown."""
    if goodput is None:
        return None

    return {
        "share": goodput.share,
        "wall_seconds": goodput.wall_seconds,
        "wall_tokens_per_second": goodput.tokens_per_second,
        "seconds": goodput.seconds,
        "attempts": goodput.attempts,
        "starts": goodput.starts,
    }


def _edits(run: Run) -> list[str]:
    """Return the changes since the submission."""
    if not run.record.edits:
        return []
    return ["\n".join(["edits:", *(f"  {describe(edit)}" for edit in run.record.edits)])]


def _attempts(run: Run) -> list[str]:
    if not run.attempts:
        return []

    header = ("ATTEMPT", "JOB", "NODES", "START", "END", "CODE", "REASON")
    rows = [
        (
            a.attempt,
            a.job_id,
            a.nodes,
            a.start,
            a.end or "",
            "" if a.exit_code is None else a.exit_code,
            a.reason or "",
        )
        for a in run.attempts
    ]

    # All attempts are read: a later attempt avoids the nodes that an earlier one found faulty.
    bad = [f"  {node}: {reason}" for node, reason in runs.bad_nodes(run).items()]

    return [
        table(header, rows),
        *(["\n".join(["unfit nodes, which the next attempt avoids:", *bad])] if bad else []),
    ]


def _next(run: Run, status: Status, training: Training | None) -> list[str]:
    """Return the commands that are useful next."""
    name = run.name
    lines = [f"  jobctl logs {name}" + (" -f" if status.state not in runs.ENDED else "")]
    if status.state in ("stopped", "failed", "cancelled", "lost"):
        lines.append(f"  jobctl resume {name}")
    elif status.state not in runs.ENDED:
        lines += [f"  jobctl cancel {name} --graceful", f"  jobctl wait {name}"]

    # The directory's name is used: for `RUN:eval` these commands need the run itself.
    if training and training.checkpoint and isinstance(run.record.spec, TrainSpec):
        lines.append(f"  jobctl submit eval {run.path.name}")
        lines.append(f"  jobctl submit export {run.path.name}")
        lines.append(f"  jobctl sample {run.path.name} --prompt 'The state of'")

    return ["next:", *lines]

"""``jobctl logs`` and ``jobctl wait``."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.describe import description
from jobctl.jobs.cli.finding import Place, find_pipeline, find_run, pipeline_runs, place_options
from jobctl.jobs.cli.output import SLOW_SECONDS, emit, say
from jobctl.jobs.cli.status import describe_status, pipeline_table, statuses
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import Spell
from jobctl.jobs.core.text import visible, visible_but_colours
from jobctl.jobs.monitoring.figures import read_training
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.logs import log_files, new_lines
from jobctl.jobs.runs.pipeline import Pipeline
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.sweeping.page import RESULT
from jobctl.jobs.targets.registry import load_target

BLOCKED_SECONDS = 600.0
"""Seconds that ``wait`` allows a job that cannot begin, for example because its image cannot be pulled."""
LONGEST_WATCH = 30.0
"""The most seconds until the next look at a silent job.

A job does not give the reason why its pod waits.
"""


@click.command("logs")
@click.argument("run")
@place_options
@click.option("--follow", "-f", is_flag=True, help="Follow until the run has ended.")
@click.option(
    "--rank", type=click.IntRange(min=0), help="Show the log of one rank instead of the batch script's."
)
@click.option("--all-ranks", is_flag=True, help="Show the lines of all ranks as they arrive.")
@click.option("--attempt", type=click.IntRange(min=1), help="Show one attempt instead of all attempts.")
@click.option("--grep", metavar="REGEX", help="Show only lines that match.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as a JSON object.")
def logs_command(
    run: str,
    follow: bool,
    rank: int | None,
    all_ranks: bool,
    attempt: int | None,
    grep: str | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Print the log of a run."""
    chosen = find_run(run, Place(**place))
    if all_ranks:
        lines = _of_all_ranks(chosen, attempt, follow)
    else:
        lines = load_target(chosen.target).logs(chosen, rank=rank, attempt=attempt, follow=follow)

    wanted = _pattern(grep or "")

    for line in lines:
        if wanted.search(line):
            click.echo(json.dumps({"line": line}) if as_json else visible_but_colours(line))


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"--grep {text!r} is no regular expression: {error}") from None


def _of_all_ranks(run: Run, attempt: int | None, follow: bool) -> Iterator[str]:
    from jobctl.jobs.submission import store_of

    return store_of(run).all_logs(run, attempt=attempt, follow=follow)


@click.command("wait")
@click.argument("run")
@place_options
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop waiting after this time, with exit code 124.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def wait_command(run: str, timeout: float | None, as_json: bool, **place: Any) -> None:
    """Wait for a run or a pipeline to end, and exit with 0 only if it finished."""
    if chosen := find_pipeline(run, Place(**place)):
        wait_for_pipeline(chosen, Place(**place), timeout=timeout, as_json=as_json)
        return
    follow_to_the_end(run, Place(**place), timeout=timeout, as_json=as_json)


def follow_to_the_end(
    name: str, place: Place, *, timeout: float | None = None, as_json: bool = False
) -> None:
    """Show a run's progress until it ends, and exit with its code.

    The code is 1 if the run has none, and 124 after the timeout.
    """
    from jobctl.jobs.cli.sweep import result_of

    with goes_on(name):
        run, status = follow(name, place, Progress(quiet=as_json), timeout=timeout)

    training = read_training(run.path) if status.state in runs.ENDED else None
    text = description(run, status, training) if training else describe_status(status)
    result = result_of(run) if status.state in runs.ENDED else ""
    emit(status, as_json, f"{text}\n\n{result}" if result else text)
    if status.state != "finished":
        sys.exit(exit_code(status))


def wait_for_pipeline(
    pipeline: Pipeline, place: Place, *, timeout: float | None = None, as_json: bool = False
) -> None:
    """Follow its runs one after the other. Exit like ``wait`` for the first that does not finish."""
    deadline = None if timeout is None else time.monotonic() + timeout
    worst = None
    progress = Progress(quiet=as_json)

    for run in pipeline_runs(pipeline, place):
        # All runs share one timeout.
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        with goes_on(pipeline.name):
            status = follow(run.name, place, progress, timeout=remaining)[1]

        if status.state != "finished":
            # The later runs wait for this one, so they cannot finish either.
            worst = status
            break

    known = statuses(pipeline_runs(pipeline, place), strict=bool(place.context))
    emit(known, as_json, pipeline_table(pipeline, known))
    if worst:
        sys.exit(exit_code(worst))


@contextlib.contextmanager
def goes_on(name: str, rest: str = "") -> Iterator[None]:
    """Say on Ctrl-C that the job called ``name`` continues.

    A user who ends the wait may think that it ends the job.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"\njobctl: {name} continues{rest}; jobctl wait {name} follows it, jobctl cancel {name} ends it",
            err=True,
        )
        raise


def follow(
    name: str, place: Place, progress: Progress, *, timeout: float | None = None
) -> tuple[Run, Status]:
    """Show a run's progress until it ends, at most ``timeout`` seconds. Return its run and status then.

    Raises UserError if the run cannot begin without a change by the user. Its job stays.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    patience = BlockedPatience()
    while True:
        # The run is read anew in each round: after a requeue it has another attempt.
        run = find_run(name, place)
        (status,) = statuses([run], strict=True)
        progress.show(run, status)
        patience.check(status)
        # The time is compared after the look, so that `--timeout 0` still shows the status.
        if status.state in runs.ENDED or (deadline is not None and time.monotonic() > deadline):
            progress.close()
            return run, status

        _pause(run, deadline)


class BlockedPatience:
    """Ends a wait for a job that its scheduler cannot begin.

    A fault of a registry or a quota may be temporary.
    """

    def __init__(self) -> None:
        self._blocked = Spell()

    def check(self, status: Status) -> None:
        """Raise UserError if the job has been blocked for ``BLOCKED_SECONDS`` without interruption."""
        blocked = self._blocked.seconds(bool(status.blocked) and status.state not in runs.ENDED)
        if blocked is not None and blocked >= BLOCKED_SECONDS:
            raise UserError(
                f"run '{status.run}' does not start: {status.blocked}",
                hint=f"its job still exists: jobctl wait {status.run}, or jobctl cancel {status.run}",
                code=1,
            )


def _pause(run: Run, deadline: float | None) -> None:
    """Wait until another look at the run is useful."""
    from jobctl.jobs.submission import store_of

    remaining = LONGEST_WATCH if deadline is None else deadline - time.monotonic()
    store_of(run).await_change(run, max(0.0, min(remaining, LONGEST_WATCH)))


def exit_code(status: Status) -> int:
    """Return the exit code of ``wait`` for a run that did not finish. It is 124 if the run continues."""
    # A lost run has no code, and a cancelled run may have 0. Neither has finished.
    return (status.exit_code or 1) if status.state in runs.ENDED else 124


class Progress:
    """The growing batch log. A terminal shows one line that is rewritten, other outputs all lines."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._offsets: dict[Path, int] = {}
        self._said = ""
        self._drawn = False
        self._silent_since = time.monotonic()
        self._printed = False
        self._with_result: set[Path] = set()

    def show(self, run: Run, status: Status) -> None:
        if self._quiet:
            return

        # The detail is left out, because it may change at each look.
        said = f"{status.state} {status.blocked}"
        if said != self._said and status.state not in runs.ENDED:
            self._said = said
            self._line(f"{status.run}: {status.state}" + (f" ({status.detail})" if status.detail else ""))

        for path in log_files(run.path, rank=None, attempt=None, step=run.step):
            for line in self._new_lines(path, status):
                self._printed = True
                self._line(line)

        if status.state == "running":
            self._explain_silence(run)

    def _explain_silence(self, run: Run) -> None:
        """Tell once why a job has printed nothing for a while: loading torch takes some seconds."""
        if not self._printed and time.monotonic() - self._silent_since > SLOW_SECONDS:
            self._printed = True
            self._line(f"{run.name}: its program is loading; it has printed nothing yet")

    def _new_lines(self, path: Path, status: Status) -> Iterator[str]:
        lines = new_lines(path, self._offsets, rest=status.state in runs.ENDED)
        return (line for line in self._without_result(path, lines) if line.strip())

    def _without_result(self, path: Path, lines: Iterator[str]) -> Iterator[str]:
        """Yield the lines before the result of a sweep, which the verb prints at the end."""
        for line in lines:
            if line == RESULT:
                self._with_result.add(path)

            if path not in self._with_result:
                yield line

    def _line(self, text: str) -> None:
        if not self._terminal:
            click.echo(visible_but_colours(text), err=True)
            return

        width = shutil.get_terminal_size().columns
        # A wrapped line could not be rewritten. The cut may be inside a colour code, so colours are removed.
        click.echo("\r\033[K" + visible(text)[: width - 1], nl=False, err=True)
        self._drawn = True

    def close(self) -> None:
        if self._drawn:
            click.echo("", err=True)

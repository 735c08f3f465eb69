"""Progress of a training, read from the end of its log, so that a list of a hundred long runs is quick."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.amounts import clock
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.log_files import log_names
from jobctl.jobs.core.reading import open_regular
from jobctl.jobs.monitoring.document import newest_document, read_document
from jobctl.jobs.monitoring.history import Interval, Line, Step, finite, number
from jobctl.jobs.monitoring.steady import mean, recent
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec

TAIL_BYTES = 128 << 10
"""Bytes that are read from the end of a log. A line has some 300 bytes, so they hold hundreds of steps."""
_DECODER = msgspec.json.Decoder(Line)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a training."""

    step: int
    steps: int
    """Steps of the whole run."""
    loss: float | None
    """Loss of the last logged step; None if it was not a number."""
    seconds_per_step: float | None
    """Mean of the newest intervals of the log; None before the first."""

    @property
    def share(self) -> float:
        """Return the part that is done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def seconds_remaining(self) -> float | None:
        """Return the seconds of the remaining steps at the newest rate, without the time between steps."""
        if self.seconds_per_step is None:
            return None

        return max(0, self.steps - self.step) * self.seconds_per_step


def read_progress(run: Run) -> Progress | None:
    """Return the progress of ``run``; None before its first logged step, and for a job that trains nothing.

    An evaluation or an export has no steps of its own.
    """
    spec = _spec(run)
    if run.step or not isinstance(spec, TrainSpec) or not spec.checkpoints:
        return None

    names = log_names(run.path)
    if not names:
        return _of_document(run.path, spec.train.max_iters)

    # The newest attempt may not have logged a step yet.
    for name in reversed(names):
        progress = _of_log(layout.metrics_dir(run.path) / name, spec.train.max_iters)
        if progress is not None:
            return progress

    return None


def _spec(run: Run) -> JobSpec:
    """Return the specification of a run with its later edits: a run that was made longer has more steps."""
    try:
        return run.record.edited_spec
    except UserError:  # an edit of a later version; a list still shows the run
        return run.record.spec


def _of_document(run: Path, steps: int) -> Progress | None:
    """Return the progress of a run whose log was not copied; None without a document that can be read."""
    file = newest_document(run, "run")
    try:
        history = read_document(file) if file else None
    except UserError:
        return None

    if history is None or not history.steps:
        return None

    return _progress(history.steps[-1], history.intervals, steps)


def _of_log(path: Path, steps: int) -> Progress | None:
    lines = _tail(path)
    done = [line for line in lines if isinstance(line, Step)]
    if not done:
        return None

    return _progress(done[-1], [line for line in lines if isinstance(line, Interval)], steps)


def _progress(last: Step, intervals: Sequence[Interval], steps: int) -> Progress:
    milliseconds = mean(recent(intervals), "dt_ms")
    losses = finite([number(last.loss)])

    return Progress(
        step=last.iter,
        steps=steps,
        loss=losses[0] if losses else None,
        seconds_per_step=milliseconds / 1e3 if milliseconds is not None else None,
    )


def _tail(path: Path) -> list[Line]:
    """Return the lines at the end of a log.

    Damaged lines, and lines that are cut at either end, are left out.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - TAIL_BYTES)
            file.seek(start)
            # The read is bounded, because the log may grow meanwhile.
            data = file.read(TAIL_BYTES)
    except OSError:  # removed since it was listed, or no file of ours
        return []

    texts = data.split(b"\n")
    # The read began in the middle of the first line.
    if start:
        texts = texts[1:]

    lines: list[Line] = []
    for text in texts:
        try:
            lines.append(_DECODER.decode(text))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue

    return lines


def in_words(progress: Progress, *, is_going: bool) -> str:
    """Return one line: ``step 500 of 2,000 (25%), loss 4.21, 01:02:03 to go``."""
    parts = [f"step {progress.step:,} of {progress.steps:,} ({progress.share:.0%})"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")

    remaining = progress.seconds_remaining
    if is_going and remaining:
        parts.append(f"{clock(remaining)} left")

    return ", ".join(parts)


def progress_facts(progress: Progress) -> dict[str, Any]:
    """Return a training's progress for JSON."""
    facts: dict[str, Any] = msgspec.to_builtins(progress)
    return facts | {"share": progress.share, "seconds_remaining": progress.seconds_remaining}

"""Read the progress of a prep job from the file that prep keeps beside the data set."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.jobs.runs.store import Run

SILENT = 60.0
"""The age in seconds at which a report is old. A worker writes a report every two seconds."""


class Preparation(msgspec.Struct, frozen=True):
    """The progress of the job. ``seconds_left`` is None if it is unknown.

    ``silent_for`` is the age of an old report in seconds. An old report has no rates, because no worker is
    active.
    """

    state: str
    tasks: int
    tasks_done: int
    share: float
    tokens: int
    tokens_per_second: float
    seconds_left: float | None
    workers: int = 0
    read_bytes: int = 0
    size: int = 0
    bytes_per_second: float = 0.0
    silent_for: float = 0.0


def read_preparation(run: Run) -> Preparation | None:
    """Return the report of ``python -m jobctl.prep.status --json``, a few seconds old.

    Return None for other kinds of runs, before the first report, and if the file is not a report.
    """
    spec = run.record.spec
    if run.job_kind.makes != "data set":
        return None

    folder = layout.dataset_dir(Path(spec.site.root), spec.inputs.dataset, spec.inputs.tokenizer)
    path = layout.preparation_file(folder)

    try:
        said = decode_json(read_regular(path), Preparation)
        # The clock of a file server may be ahead of ours.
        age = max(time.time() - path.stat().st_mtime, 0.0)
    except (OSError, msgspec.MsgspecError):
        return None

    return as_of_now(said, age)


def as_of_now(said: Preparation, age: float) -> Preparation:
    """Return a report that is ``age`` seconds old.

    Remove its rates if it is too old for an active worker.
    """
    if age <= SILENT or said.state == "finished":
        return said

    return msgspec.structs.replace(
        said, silent_for=age, workers=0, tokens_per_second=0.0, bytes_per_second=0.0, seconds_left=None
    )


def summary(progress: Preparation) -> str:
    """Return one line for people."""
    rate = f"{progress.tokens_per_second / 1e6:.1f} M/s"
    if progress.silent_for:
        rate = f"no worker has reported for {progress.silent_for / 60:,.0f} minutes"

    return (
        f"{progress.state}: {progress.share:.1%}, {progress.tasks_done}/{progress.tasks} tasks, "
        f"{progress.tokens / 1e6:,.1f} M tokens, {rate}"
        + (f", {progress.seconds_left:,.0f} s left" if progress.seconds_left else "")
    )

"""How far a prep job is: the file that prep keeps beside the data set it makes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.runs.store import Run


class Preparation(msgspec.Struct, frozen=True):
    """How far the job is; ``seconds_left`` is None where it is unknown."""

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


def read_preparation(run: Run) -> Preparation | None:
    """Return what ``python -m jobctl.prep.status --json`` says, a few seconds old.

    None for other runs, before the first report, and where the file is not one.
    """
    spec = run.record.spec
    if run.job_kind.makes != "data set":
        return None

    folder = layout.dataset_dir(Path(spec.site.root), spec.inputs.dataset, spec.inputs.tokenizer)

    try:
        return msgspec.json.decode(read_regular(layout.preparation_file(folder)), type=Preparation)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def summary(progress: Preparation) -> str:
    """Return one line for people."""
    return (
        f"{progress.state}: {progress.share:.1%}, {progress.tasks_done}/{progress.tasks} tasks, "
        f"{progress.tokens / 1e6:,.1f} M tokens, {progress.tokens_per_second / 1e6:.1f} M/s"
        + (f", {progress.seconds_left:,.0f} s left" if progress.seconds_left else "")
    )

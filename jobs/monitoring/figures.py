"""A few figures of a training, from its logs or, for a run of another tool, from its JSON document.

The validation loss may also come from the newest evaluation of a checkpoint.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.log_files import Kind
from jobctl.jobs.core.names import UnsafeName, inside
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.monitoring.document import newest_document
from jobctl.jobs.monitoring.history import finite, known, number
from jobctl.jobs.monitoring.logfile import RunLog


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one training so far. A figure is None until the training has it."""

    iterations: int
    first_loss: float | None
    last_loss: float | None
    validation_loss: float | None
    tokens_per_second: float | None
    """Median over the logged intervals."""
    mfu: float | None
    checkpoint: str | None
    metrics: str


def read_training(run: Path) -> Training | None:
    """Return the figures of ``run``, or None before its first write and for a run that trains nothing.

    Raises UserError if a document cannot be read.
    """
    file = newest(run, "run") or newest(run, "eval")
    if file is None:
        return None

    training = RunLog(run).read()
    evaluations = training.evaluations
    # The first interval carries the start-up: compilation, the first read of the data.
    steady = training.intervals[1:] or training.intervals
    rates = finite(interval.tokens_per_sec for interval in steady)
    shares = finite(interval.mfu for interval in steady)

    return Training(
        iterations=training.last_step,
        first_loss=known(number(training.steps[0].loss)) if training.steps else None,
        last_loss=known(number(training.steps[-1].loss)) if training.steps else None,
        validation_loss=known(number(evaluations[-1].val_loss)) if evaluations else None,
        tokens_per_second=statistics.median(rates) if rates else None,
        mfu=statistics.median(shares) if shares else None,
        checkpoint=_latest(run),
        metrics=str(file),
    )


def _latest(run: Path) -> str | None:
    """Return the path of the checkpoint that LATEST names, or None if it names nothing in its folder."""
    folder = layout.checkpoints_dir(run)
    try:
        # LATEST may be damaged, and must not name a file outside of the run.
        return str(inside(folder, read_regular(folder / "LATEST").decode().strip()))
    except (OSError, UnicodeDecodeError, UnsafeName):
        return None


def newest(run: Path, kind: Kind) -> Path | None:
    """Return the last document of a training ("run") or of an evaluation ("eval").

    Return its log if it has no document yet.
    """
    return newest_document(run, kind) or max(layout.metrics_dir(run).glob(f"{kind}_*.jsonl"), default=None)

"""A few figures of a training, from its logs or, for a run of another tool, from its JSON document.

The validation loss may also come from the newest evaluation of a checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.log_files import Kind
from jobctl.jobs.core.names import UnsafeName, inside
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.monitoring.analysis import final_loss, last_validation
from jobctl.jobs.monitoring.document import newest_document
from jobctl.jobs.monitoring.history import History, column, finite
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.monitoring.steady import mean, rate, steady


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one training so far. A figure is None until the training has it."""

    iterations: int
    first_loss: float | None
    last_loss: float | None
    """Mean of the last steps, as in an analysis."""
    validation_loss: float | None
    tokens_per_second: float | None
    """While steps run, in the steady intervals."""
    mfu: float | None
    checkpoint: str | None
    metrics: str


def read_training(run: Path) -> Training | None:
    """Return the figures of ``run``, or None before its first write and for a run that trains nothing.

    Raises UserError if a document cannot be read.
    """
    return training_of(run, RunLog(run).read())


def training_of(run: Path, history: History) -> Training | None:
    """Return the figures of ``run``, whose log says ``history``; None as ``read_training``."""
    file = newest(run, "run") or newest(run, "eval")
    if file is None:
        return None

    losses = finite(column(history.steps, "loss"))
    intervals = steady(history).intervals

    return Training(
        iterations=history.last_step,
        first_loss=losses[0] if losses else None,
        last_loss=final_loss(losses),
        validation_loss=last_validation(history.evaluations),
        tokens_per_second=rate(intervals),
        mfu=mean(intervals, "mfu"),
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

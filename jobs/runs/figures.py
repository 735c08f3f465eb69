"""Read a few figures of a training from its newest ``metrics/run_<stamp>.json``.

The validation loss may also come from ``eval_<stamp>.json``, the newest evaluation of a checkpoint.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.names import UnsafeName, inside
from jobctl.jobs.core.reading import read_regular

DOCUMENT_BYTES = 1 << 30
"""The longest metrics document to read. It has room for some millions of iterations."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one training so far. A figure is None until the training has it."""

    iterations: int
    first_loss: float | None
    last_loss: float | None
    validation_loss: float | None
    tokens_per_second: float | None
    """Median over the logged iterations."""
    mfu: float | None
    checkpoint: str | None
    metrics: str


class _Iteration(msgspec.Struct):
    """One logged iteration or evaluation of a metrics document."""

    iter: int
    loss: float | None = None
    val_loss: float | None = None
    tokens_per_sec: float | None = None
    mfu: float | None = None


class _Document(msgspec.Struct):
    training_iterations: list[_Iteration] = []
    eval_steps: list[_Iteration] = []


def read_training(run: Path) -> Training | None:
    """Return the figures of ``run``, or None before its first write and for a run that trains nothing.

    Raises UserError if a file is not a metrics document.
    """
    files = [path for kind in ("run", "eval") if (path := newest(run, kind))]
    if not files:
        return None

    documents = [_read(path) for path in files]
    iterations = documents[0].training_iterations
    evaluations = sorted((e for d in documents for e in d.eval_steps), key=lambda step: step.iter)
    # The first logged step carries start-up: compilation, the first read of the data.
    steady = iterations[1:] or iterations
    rates = [step.tokens_per_sec for step in steady if step.tokens_per_sec]
    shares = [step.mfu for step in steady if step.mfu]

    return Training(
        iterations=iterations[-1].iter if iterations else 0,
        first_loss=iterations[0].loss if iterations else None,
        last_loss=iterations[-1].loss if iterations else None,
        validation_loss=evaluations[-1].val_loss if evaluations else None,
        tokens_per_second=statistics.median(rates) if rates else None,
        mfu=statistics.median(shares) if shares else None,
        checkpoint=_latest(run),
        metrics=str(files[0]),
    )


def _read(path: Path) -> _Document:
    try:
        return msgspec.json.decode(read_regular(path, DOCUMENT_BYTES), type=_Document)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", code=1) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not the metrics of a run: {error}", code=1) from None


def _latest(run: Path) -> str | None:
    """Return the path of the checkpoint that LATEST names, or None if it names nothing in its folder."""
    folder = layout.checkpoints_dir(run)
    try:
        return str(inside(folder, read_regular(folder / "LATEST").decode().strip()))
    except (OSError, UnicodeDecodeError, UnsafeName):
        return None


def newest(run: Path, kind: str) -> Path | None:
    """Return the last document of a training ("run") or of an evaluation ("eval")."""
    return max(layout.metrics_dir(run).glob(f"{kind}_*.json"), default=None)

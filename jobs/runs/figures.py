"""What a training wrote of itself, in a few figures: read from the newest ``metrics/run_<stamp>.json``.

And from ``eval_<stamp>.json``, the newest evaluation of a checkpoint, for the loss that it found.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.names import UnsafeName, inside


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one training so far; None where it has not got there yet."""

    iterations: int
    first_loss: float | None
    last_loss: float | None
    validation_loss: float | None
    tokens_per_second: float | None
    """Median over the logged iterations."""
    mfu: float | None
    checkpoint: str | None
    metrics: str


def read_training(run: Path) -> Training | None:
    """The figures of ``run``; None before its first write, and for a run that trains nothing."""
    files = [path for kind in ("run", "eval") if (path := newest(run, kind))]
    if not files:
        return None
    logs: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    iterations = logs[0].get("training_iterations", [])
    evaluations = sorted((e for log in logs for e in log.get("eval_steps", [])), key=lambda e: e["iter"])
    # The first logged step carries start-up: compilation, the first read of the data.
    rates = [step["tokens_per_sec"] for step in iterations[1:] or iterations if step.get("tokens_per_sec")]
    shares = [step["mfu"] for step in iterations[1:] or iterations if step.get("mfu")]
    return Training(
        iterations=iterations[-1]["iter"] if iterations else 0,
        first_loss=iterations[0]["loss"] if iterations else None,
        last_loss=iterations[-1]["loss"] if iterations else None,
        validation_loss=evaluations[-1].get("val_loss") if evaluations else None,
        tokens_per_second=statistics.median(rates) if rates else None,
        mfu=statistics.median(shares) if shares else None,
        checkpoint=_latest(run),
        metrics=str(files[0]),
    )


def _latest(run: Path) -> str | None:
    """Return the path of the checkpoint that LATEST names; None where it names nothing in its folder."""
    folder = layout.checkpoints_dir(run)
    try:
        return str(inside(folder, (folder / "LATEST").read_text(encoding="utf-8").strip()))
    except (OSError, UnicodeDecodeError, UnsafeName):
        return None


def newest(run: Path, kind: str) -> Path | None:
    """The last document of a training ("run") or of an evaluation ("eval")."""
    return max(layout.metrics_dir(run).glob(f"{kind}_*.json"), default=None)

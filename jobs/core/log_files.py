"""The names of a run's log files: ``metrics/run_<stamp>.jsonl`` and ``eval_<stamp>.jsonl``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from jobctl.jobs.core import layout

Kind = Literal["run", "eval"]
"""The kind of log: of a training or of an evaluation. Both may run together, so the names differ."""
LOG_NAME = re.compile(r"(?P<kind>run|eval)_(?P<stamp>\d{8}-\d{6}-\d{3})\.jsonl")


def log_names(run: Path, kind: Kind = "run") -> list[str]:
    """Return the names of the log files of ``kind``, oldest first.

    A file with another name is left out: it may be a copy or a backup.
    """
    try:
        # The stamp in the name is a time in a fixed width, so this order is the order of the starts.
        names = sorted(path.name for path in layout.metrics_dir(run).iterdir())
    except OSError:
        return []

    return [name for name in names if (match := LOG_NAME.fullmatch(name)) and match["kind"] == kind]


def has_training(run: Path) -> bool:
    """Return whether a training wrote into ``run``. If its log is missing, its document proves it."""
    return bool(log_names(run)) or any(layout.metrics_dir(run).glob("run_*.json"))

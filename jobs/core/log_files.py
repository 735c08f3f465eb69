"""The log files of a run by name: ``metrics/run_<stamp>.jsonl`` and ``eval_<stamp>.jsonl``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from jobctl.jobs.core import layout

Kind = Literal["run", "eval"]
"""A training's log, or that of an evaluation, which may go on beside the training and must not be taken for it."""
LOG_NAME = re.compile(r"(?P<kind>run|eval)_(?P<stamp>\d{8}-\d{6}-\d{3})\.jsonl")


def log_names(run: Path, kind: Kind = "run") -> list[str]:
    """Return the names of the log files of a kind, oldest first; none before the first is written.

    A file with another name, a copy or a backup, is none of them.
    """
    try:
        names = sorted(path.name for path in layout.metrics_dir(run).iterdir())
    except OSError:
        return []

    return [name for name in names if (match := LOG_NAME.fullmatch(name)) and match["kind"] == kind]

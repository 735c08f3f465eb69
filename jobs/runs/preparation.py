"""How far a prep job is: the file that prep keeps beside the data set it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobctl.jobs.core import layout
from jobctl.jobs.runs.store import Run


def read_preparation(run: Run) -> dict[str, Any] | None:
    """Return what ``python -m jobctl.prep.status --json`` says, a few seconds old.

    None for other runs and before the first report.
    """
    spec = run.record.spec
    if run.job_kind.makes != "data set":
        return None
    folder = layout.dataset_dir(Path(spec.site.root), spec.inputs.dataset, spec.inputs.tokenizer)
    try:
        found: dict[str, Any] = json.loads(layout.preparation_file(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def summary(found: dict[str, Any]) -> str:
    """One line of it."""
    left = found["seconds_left"]
    return (
        f"{found['state']}: {found['share']:.1%}, {found['tasks_done']}/{found['tasks']} tasks, "
        f"{found['tokens'] / 1e6:,.1f} M tokens, {found['tokens_per_second'] / 1e6:.1f} M/s"
        + (f", {left:,.0f} s left" if left else "")
    )

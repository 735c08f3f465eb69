"""A run that was recorded, and whose job has not begun."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import JobSpec


def recorded(root: Path, spec: JobSpec) -> Run:
    """Claim the directory of a run, write its record and a script into it, and start nothing."""
    assert spec.run is not None
    path = runs.claim(root, spec.run)
    runs.write_submission(path, spec, "#!/bin/bash\n")
    return runs.read(root, spec.run)

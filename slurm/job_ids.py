"""The ids of a run's jobs, recorded in its directory.

Accounts may keep no comment, and another run may have the same name.
"""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.reading import read_regular


def job_ids_file(run: Path) -> Path:
    """Return the file of ids, one a line, in order of submission. Only its attempts record a piped job."""
    return run / "logs" / "slurm-jobs"


def read_job_ids(run: Path) -> set[str]:
    """Return the recorded ids. Return none if the file is missing or cannot be read."""
    try:
        text = read_regular(job_ids_file(run)).decode("ascii", "replace")
    except OSError:
        return set()

    # The ids become words of commands, and another user may have written the file.
    return {line for line in text.splitlines() if line.isdigit()}


def record_job_id(run: Path, job: str) -> None:
    """Add the id of a job that was submitted for the run."""
    known = read_job_ids(run)
    lines = sorted({*known, job}, key=int)
    write_whole(job_ids_file(run), "".join(f"{line}\n" for line in lines).encode())

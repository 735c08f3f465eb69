"""The mark of a run that a user cancelled while its job waited. No attempt says so, because none began.

Readers that ask no scheduler use it: the exporter and the watched page.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.core.stamps import seconds_of, utc_stamp

STAMP_BYTES = 64


def mark_cancelled(run: Path) -> None:
    """Write that the waiting job of a run was cancelled now.

    Write nothing into the run of another user: an operator's file there would prevent its next attempt.
    """
    # The job has ended already. A full disk must not turn that into a failure.
    with contextlib.suppress(OSError):
        if run.stat().st_uid == os.geteuid():
            write_whole(layout.cancelled_file(run), f"{utc_stamp()}\n".encode())


def forget_cancelled(run: Path) -> None:
    """Remove the mark: the run has a job again."""
    with contextlib.suppress(OSError):
        layout.cancelled_file(run).unlink()


def cancelled_at(run: Path) -> float | None:
    """Return the time of the mark, in seconds since the epoch; None if the run has none."""
    try:
        return seconds_of(read_regular(layout.cancelled_file(run), STAMP_BYTES).decode().strip())
    except (OSError, ValueError):
        return None

"""Remove a run directory, or the checkpoints in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from jobctl.jobs.core import layout


def size_of(run: Path, checkpoints: bool) -> int:
    """Return the bytes of a run directory, or of its checkpoints alone.

    What another process removes counts nothing.
    """
    folder = layout.checkpoints_dir(run) if checkpoints else run
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size
            # Of a run at work an old checkpoint may go at this moment.
            except OSError:
                continue

    return total


def remove(run: Path, checkpoints: bool) -> None:
    """Remove a run directory, or its checkpoints alone; no link is followed.

    The folder gets another name first: a removal that is interrupted leaves no run with half of its files.
    """
    folder = layout.checkpoints_dir(run) if checkpoints else run
    if not folder.is_dir():
        return

    aside = folder.with_name(f".{folder.name}.removed")
    # What an interrupted removal has left: the rename would fail over it.
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)

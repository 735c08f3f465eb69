"""Remove a run directory, or the checkpoints in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError


def size_of(run: Path, checkpoints: bool) -> int:
    """Return the bytes of a run directory, or of its checkpoints alone.

    A file that another process removes in the meantime does not count.
    """
    folder = layout.checkpoints_dir(run) if checkpoints else run
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size
            # A running training may remove an old checkpoint at this moment.
            except OSError:
                continue

    return total


def remove(run: Path, checkpoints: bool) -> None:
    """Remove a run directory, or its checkpoints alone. Follow no link.

    Rename the folder first, so that an interrupted removal leaves no run with half of its files. Raises
    UserError if the folder is a link.
    """
    folder = layout.checkpoints_dir(run) if checkpoints else run
    if not folder.is_dir():
        return

    # The user who made the link decides about the files behind it.
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a symbolic link to {os.readlink(folder)}; jobctl removes nothing behind a link",
            hint="remove that folder and the link yourself",
            code=1,
        )

    aside = folder.with_name(f".{folder.name}.removed")
    # Remove the rest of an interrupted removal: otherwise the rename would fail.
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)

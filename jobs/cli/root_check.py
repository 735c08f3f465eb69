"""Check the root of a site: whether jobs can write their runs below it."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from jobctl.jobs.core.errors import why_not
from jobctl.jobs.core.reading import nearest_existing

WRITTEN_BYTES = 1 << 20
"""A disk with less space than this, or a quota, has no place for the files of one run."""


def fault_of(root: Path) -> str:
    """Return the reason why no run can be written below ``root``, or an empty text."""
    existing = nearest_existing(root)
    if not existing.is_dir():
        return f"{existing} is not a folder"

    can_write = os.access(existing, os.W_OK | os.X_OK)
    if existing != root:
        return f"there is no such folder; {_remedy(root, existing, can_write)}"

    return _refusal_of(root) if can_write else f"you cannot write {root}"


def _remedy(root: Path, existing: Path, can_write: bool) -> str:
    if not can_write:
        return f"and you cannot write {existing}"

    return f"mkdir -p {shlex.quote(str(root))} makes it"


def _refusal_of(root: Path) -> str:
    """Write a nameless file and return the reason if that fails.

    Only this finds a quota, a full disk without inodes, and a server that refuses.
    """
    try:
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(bytes(WRITTEN_BYTES))
            file.flush()
            # A file system may take the bytes now and refuse them later.
            os.fsync(file.fileno())
    except OSError as error:
        return f"nothing can be written there: {why_not(error, root)}"

    return ""

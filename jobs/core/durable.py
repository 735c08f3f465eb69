"""Write files so that a reader, a crash or a full disk never sees half of one."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse fsync on a folder; their renames are synchronous
        pass
    finally:
        os.close(descriptor)


def partial_path(path: Path) -> Path:
    """Return a name to write ``path`` under before its rename; no two writers on any nodes share it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step: a reader sees the old file or all of the new one."""
    temporary = partial_path(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

    # The rename itself is durable only after the folder is.
    sync_folder(path.parent)


def make_shared(folder: Path) -> None:
    """Create ``folder`` for everybody who may write its parent: with the parent's mode, sticky bit included.

    ``templates/shell/files.sh`` does the same in a job.
    """
    if folder.is_dir():
        return

    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user has made it at this moment
        folder.chmod(folder.parent.stat().st_mode & 0o7777)

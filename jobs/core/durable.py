"""Write files so that no reader sees half a file, even after a crash or on a full disk."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, if its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse fsync on a folder. Their renames are synchronous.
        pass
    finally:
        os.close(descriptor)


def partial_path(path: Path) -> Path:
    """Return a temporary name for ``path`` until its rename. No other writer on any node has this name."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step. A reader sees the whole old file or the whole new one."""
    temporary = partial_path(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            # Before the rename: otherwise a crash could leave the new name with an empty file behind it.
            os.fsync(file.fileno())

        os.replace(temporary, path)
    # Also on Ctrl-C: nothing else would remove the partial file.
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The error of a write names no file. That of the partial file names a file unknown to users.
            error.filename = str(path)

        raise

    # The rename itself is durable only after the folder is synchronised.
    sync_folder(path.parent)


def keeps_its_place(path: Path) -> bool:
    """Return whether ``path`` is something that a file must not replace: a link, a device or a pipe."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def write_named(path: Path, data: bytes) -> None:
    """Put ``data`` at a path that the user named.

    Replace a file in one step. Write into anything that keeps its place, such as /dev/stdout. Do not use this
    in folders that other users may write to, because it follows links.
    """
    if keeps_its_place(path):
        with open(path, "wb") as file:
            file.write(data)

        return

    write_whole(path, data)


def make_shared(folder: Path) -> None:
    """Create ``folder`` with the mode of its parent, including the sticky bit.

    The users who may write to the parent may then write to it. A job does the same in
    ``templates/shell/files.sh``.
    """
    if folder.is_dir():
        return

    folder.mkdir(parents=True, exist_ok=True)
    # mkdir takes the user's umask off its mode, so the mode is set afterwards. Another user who made the
    # folder at the same moment owns it, and has set its mode.
    with contextlib.suppress(PermissionError):
        folder.chmod(folder.parent.stat().st_mode & 0o7777)

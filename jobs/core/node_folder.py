"""Keep files on this machine while a process lives. Remove the files of a process that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

LOCK = "lock"


class NodeFolder:
    """A folder for this process alone. No other user may read it.

    The process holds a lock in it. A kill releases the lock but leaves the folder. The next process that
    makes a folder with the same prefix removes it.
    """

    def __init__(self, prefix: str, place: Path | None = None) -> None:
        """Make the folder in ``place``, by default the system's folder for temporary files.

        Raises OSError if that fails.
        """
        parent = place or Path(tempfile.gettempdir())
        prefix = f"{prefix}{os.getuid()}-"
        remove_abandoned(parent, prefix)

        # Locked before it gets its name. Otherwise another process could treat it as abandoned.
        aside = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
        self._lock = _locked(aside / LOCK)
        self.path = aside.with_name(aside.name[1:])
        aside.rename(self.path)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        # Release the lock last. Until then no other process treats the folder as abandoned.
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned(place: Path, prefix: str) -> None:
    """Remove this user's folders whose process was killed. A folder without a lock belongs to others."""
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            # Another user may have put a folder or a link here, whose content is not ours to remove.
            if folder.is_symlink() or not (folder / LOCK).is_file() or folder.stat().st_uid != os.getuid():
                continue

            lock = _locked(folder / LOCK)
            # Nobody holds the lock, so the process has ended.
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(path: Path) -> int | None:
    """Return a descriptor whose lock ends with this process. Return None if another process holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None

    return descriptor

"""Keep files on this machine for as long as a process lives, and clear up after one that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

LOCK = "lock"


class NodeFolder:
    """A folder of this process alone, which no other user may read.

    Its process holds a lock in it. A kill ends the lock and leaves the folder. The next process that makes a
    folder with the same prefix removes it.
    """

    def __init__(self, prefix: str, place: Path | None = None) -> None:
        """Make the folder in ``place``, by default the one for temporary files.

        Raises OSError where it cannot.
        """
        parent = place or Path(tempfile.gettempdir())
        prefix = f"{prefix}{os.getuid()}-"
        remove_abandoned(parent, prefix)

        # Locked before it has its name: another process could take it for an abandoned one.
        aside = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
        self._lock = _locked(aside / LOCK)
        self.path = aside.with_name(aside.name[1:])
        aside.rename(self.path)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        # The lock goes last: until then no other process takes the folder for an abandoned one.
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned(place: Path, prefix: str) -> None:
    """Remove this user's folders whose process was killed. A folder without a lock is somebody else's."""
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or not (folder / LOCK).is_file() or folder.stat().st_uid != os.getuid():
                continue

            lock = _locked(folder / LOCK)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(path: Path) -> int | None:
    """Return a descriptor whose lock ends with this process; None where another process has it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None

    return descriptor

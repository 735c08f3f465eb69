"""Who works on what, on a shared file system: a claim is a file that its owner keeps touching.

A claim only saves work: outputs are deterministic and appear whole, so two workers on one task do no harm.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

OWNER = f"{socket.gethostname()}:{os.getpid()}"


class Claims:
    """Claims in a folder. One not touched for ``stale`` seconds is its dead owner's, and may be taken."""

    def __init__(self, folder: Path, stale: float) -> None:
        self.folder, self.stale = folder, stale
        folder.mkdir(parents=True, exist_ok=True)

    def _now(self) -> float:
        """The file system's own time: nodes' clocks differ."""
        clock = self.folder / f".clock.{OWNER}"
        clock.touch()
        return clock.stat().st_mtime

    def take(self, task: str) -> bool:
        """Whether the task is now ours."""
        path = self.folder / task
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return self._take_over(path)
        with os.fdopen(descriptor, "w") as file:
            file.write(OWNER)
        return True

    def _take_over(self, path: Path) -> bool:
        try:
            if self._now() - path.stat().st_mtime < self.stale:
                return False
            mine = path.with_name(f".{path.name}.{OWNER}")
            mine.write_text(OWNER)
            os.replace(mine, path)
            return path.read_text() == OWNER
        except FileNotFoundError:  # released in between
            return False

    @contextlib.contextmanager
    def held(self, task: str) -> Iterator[None]:
        """Keep a taken claim alive while the block runs, and give it back at its end."""
        path, over = self.folder / task, threading.Event()

        def touch() -> None:
            while not over.wait(self.stale / 4):
                with contextlib.suppress(OSError):
                    os.utime(path)

        thread = threading.Thread(target=touch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def drop(self, owner: str) -> None:
        """Give back the claims of a worker that is known to be dead."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if not path.name.startswith(".") and path.read_text() == owner:
                    path.unlink(missing_ok=True)

"""Who works on what, on a shared file system: a claim is a file that its owner keeps touching.

A claim only saves work: outputs are deterministic and appear whole, so two workers on one task do no harm.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

POLL = 0.2
"""Seconds between looks at what others do."""
NODE = os.environ.setdefault("JOBCTL_PREP_NODE", secrets.token_hex(4))
"""The same in the processes that this one starts: containers of one machine may share its name and process ids."""
Found = TypeVar("Found")


def owner(pid: int | None = None) -> str:
    """The name of a process of this node, or of this process."""
    return f"{socket.gethostname()}:{NODE}:{pid or os.getpid()}"


def taken(path: Path, otherwise: float) -> float:
    """When a claim was taken; ``otherwise`` where it does not say so, as while it is being written."""
    try:
        return float(path.read_text().partition(" ")[2])
    except ValueError:
        return otherwise


class Claims:
    """Claims in a folder: each says who took it and when, and its age is the time since its owner last touched it.

    One not touched for ``stale`` seconds is its dead owner's, and may be taken.
    """

    def __init__(self, folder: Path, stale: float) -> None:
        self.folder = folder
        self.stale = stale
        folder.mkdir(parents=True, exist_ok=True)

    def _now(self) -> float:
        """The file system's own time: nodes' clocks differ."""
        clock = self.folder / f".clock.{owner()}"
        clock.touch()
        return clock.stat().st_mtime

    def take(self, task: str, patience: float = math.inf) -> bool:
        """Whether the task is now ours: nobody had it, its owner is dead, or has had it for ``patience`` seconds."""
        path = self.folder / task
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return self._take_over(path, patience)

        with os.fdopen(descriptor, "w") as file:
            file.write(f"{owner()} {os.fstat(descriptor).st_mtime}")

        return True

    def _take_over(self, path: Path, patience: float) -> bool:
        try:
            now = self._now()
            touched = path.stat().st_mtime
            if now - touched < self.stale and now - taken(path, touched) < patience:
                return False

            mine = path.with_name(f".{path.name}.{owner()}")
            said = f"{owner()} {now}"
            mine.write_text(said)
            os.replace(mine, path)

            return path.read_text() == said
        except FileNotFoundError:  # released in between
            return False

    @contextlib.contextmanager
    def held(self, task: str) -> Iterator[None]:
        """Keep a taken claim alive while the block runs, and give it back at its end."""
        path = self.folder / task
        over = threading.Event()

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

    def once(
        self,
        task: str,
        find: Callable[[], Found | None],
        make: Callable[[], object],
        waiting: Callable[[], object] = lambda: None,
    ) -> Found:
        """What ``find`` finds; where that is nothing yet, whoever comes first makes it, and the others wait."""
        while (found := find()) is None:
            if not self.take(task):
                waiting()
                time.sleep(POLL)
                continue

            with self.held(task):
                if find() is None:  # nobody made it between our look and our claim
                    make()

        return found

    def drop(self, owner: str) -> None:
        """Give back the claims of a worker that is known to be dead."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if not path.name.startswith(".") and path.read_text().partition(" ")[0] == owner:
                    path.unlink(missing_ok=True)

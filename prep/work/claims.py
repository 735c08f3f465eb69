"""Claims on tasks, on a shared file system. A claim is a file that its owner touches again and again.

A claim only saves work. Outputs are deterministic and appear whole, so two workers at one task do no harm.
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
"""Seconds between two checks of the work of others."""
NODE = os.environ.setdefault("JOBCTL_PREP_NODE", secrets.token_hex(4))
"""A name of this node. Containers of one machine may share its host name and process ids, so it is random.

The processes that this one starts get the same name by the environment.
"""
Found = TypeVar("Found")


def owner(pid: int | None = None) -> str:
    """Return the name of a process of this node, or of this process."""
    return f"{socket.gethostname()}:{NODE}:{pid or os.getpid()}"


def taken(path: Path, otherwise: float) -> float:
    """Return the time when a claim was taken.

    Return ``otherwise`` for an empty claim that is just being written.
    """
    try:
        return float(path.read_text().partition(" ")[2])
    except ValueError:
        return otherwise


class Claims:
    """Claims in a folder.

    Each holds its owner and the time of taking. Its age is the time since the last touch.

    The owner of a claim that was not touched for ``stale`` seconds is dead, and another worker may take it.
    """

    def __init__(self, folder: Path, stale: float) -> None:
        self.folder = folder
        self.stale = stale
        folder.mkdir(parents=True, exist_ok=True)

    def _now(self) -> float:
        """Return the time of the file system. The clocks of nodes differ."""
        clock = self.folder / f".clock.{owner()}"
        clock.touch()
        return clock.stat().st_mtime

    def take(self, task: str, patience: float = math.inf) -> bool:
        """Take a task and return True if it is ours now.

        It is ours if nobody had it, if its owner is dead, or if its owner has had it for ``patience``
        seconds.
        """
        path = self.folder / task
        try:
            # O_EXCL lets exactly one of several workers make the file.
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return self._take_over(path, patience)

        # This is the time of the file system, by which the ages of claims are measured.
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{owner()} {os.fstat(descriptor).st_mtime}")

        return True

    def _take_over(self, path: Path, patience: float) -> bool:
        try:
            now = self._now()
            touched = path.stat().st_mtime
            if now - touched < self.stale and now - taken(path, touched) < patience:
                return False

            # It is written aside and renamed, so that nobody reads half a claim.
            aside = path.with_name(f".{path.name}.{owner()}")
            claim = f"{owner()} {now}"
            aside.write_text(claim)
            os.replace(aside, path)

            # If several workers take over at once, the last one to rename has the task.
            return path.read_text() == claim
        except FileNotFoundError:
            # Its owner has given it back meanwhile.
            return False

    @contextlib.contextmanager
    def held(self, task: str) -> Iterator[None]:
        """Keep a claim alive while the block runs, and give it back at the end."""
        path = self.folder / task
        over = threading.Event()

        def touch() -> None:
            # This is four times as often as needed, so that a slow file system or a busy machine does
            # not lose a claim.
            while not over.wait(self.stale / 4):
                with contextlib.suppress(OSError):
                    os.utime(path)

        thread = threading.Thread(target=touch, daemon=True)
        thread.start()

        try:
            yield
        finally:
            # If another worker has taken the claim over meanwhile, it loses it here. Then a
            # third one may also do the task, which does no harm.
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
        """Return the result of ``find``. If it is None, the first caller makes it, and the others wait."""
        while (result := find()) is None:
            if not self.take(task):
                waiting()
                time.sleep(POLL)
                continue

            with self.held(task):
                # Another worker may have made it between our check and our claim.
                if find() is None:
                    make()

        return result

    def drop(self, owner: str) -> None:
        """Give back the claims of a worker that is known to be dead."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                # Names with a dot are clocks, and claims that are about to be renamed.
                if not path.name.startswith(".") and path.read_text().partition(" ")[0] == owner:
                    path.unlink(missing_ok=True)

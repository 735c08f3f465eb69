"""Ends a rank that makes no progress, with every thread's stack in its log."""

from __future__ import annotations

import faulthandler
import signal
from types import TracebackType
from typing import TextIO


class Watchdog:
    """Armed anew by each ``beat``. It is a thread in C, so it acts even where Python or a collective is stuck.

    Every rank waits for the one that hangs, so all of them come to their own timeout within a step of each other.
    The process ends with code 1.
    """

    def __init__(self, timeout_seconds: int, log: TextIO) -> None:
        self.timeout_seconds = timeout_seconds
        self.log = log

    def beat(self) -> None:
        """A step (or a part of an evaluation, or a checkpoint) was done."""
        faulthandler.dump_traceback_later(self.timeout_seconds, exit=True, file=self.log)

    def __enter__(self) -> Watchdog:
        faulthandler.enable(file=self.log)
        faulthandler.register(signal.SIGUSR1, file=self.log, all_threads=True)  # stacks on demand
        self.beat()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()

"""Ends a rank that makes no progress, with every thread's stack in its log.

Waiting for storage is no hang: a checkpoint that a slow disk takes, or a start that reads one. Then the
watchdog is patient, and says what it waits for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO, TypeVar

from jobctl.jobs.core.exit_codes import EXIT_FAILED

T = TypeVar("T")
log = logging.getLogger(__name__)
START_SECONDS = 1800
"""Smallest limit of a start without progress, in seconds."""
STORAGE_SECONDS = 3600
"""Smallest limit of a wait for storage, in seconds."""
STORAGE_TIMEOUTS = 8
"""The limit of a wait for storage is also at least this number of step timeouts."""
LAST_RESORT_SECONDS = 60.0
"""So much later than its own limit the watchdog ends a process in which no Python runs any more."""
POLL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Wait:
    """Something that may take longer than a step."""

    reason: str
    limit: float
    """Seconds without progress after which it is a hang all the same."""
    since: float


class Watchdog:
    """Looks once a second whether this rank has made progress; ``beat`` says that it has.

    A rank that made none for too long calls ``investigate`` with the seconds, which may say more than this
    rank knows. Then the process ends with code 1. ``is_called`` says whether another rank has found a
    hang, which every rank then looks into at the same time. ``lost`` names a rank that has died: without it no
    other one gets further, so this one ends at once.

    Where no Python runs any more, a thread in C writes the stacks and ends the process.
    """

    def __init__(
        self,
        timeout_seconds: int,
        log_file: TextIO,
        investigate: Callable[[float], None] = lambda _: None,
        is_called: Callable[[], bool] = lambda: False,
        lost: Callable[[], str] = lambda: "",
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.log_file = log_file
        self.investigate = investigate
        self.is_called = is_called
        self.lost = lost
        # A clock that nobody sets: a jump of the wall clock would look like a hang.
        self._progress = time.monotonic()
        self._said = 0
        self._wait: Wait | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """Take note that a step (or a part of an evaluation, or a checkpoint) was done."""
        self._progress = time.monotonic()

    @property
    def doing(self) -> str:
        """Return the reason for which this rank may take long; empty within steps."""
        wait = self._wait
        return wait.reason if wait else ""

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Around all that comes before the first step has ended."""
        with self._waiting("the first step", max(self.timeout_seconds, START_SECONDS)):
            yield

    @contextlib.contextmanager
    def waiting_for_storage(self, reason: str) -> Iterator[None]:
        """Mark a wait for storage. ``reason`` names the operation."""
        limit = max(self.timeout_seconds * STORAGE_TIMEOUTS, STORAGE_SECONDS)
        with self._waiting(f"storage: {reason}", limit):
            yield

    @contextlib.contextmanager
    def _waiting(self, reason: str, limit: float) -> Iterator[None]:
        # A wait inside another one: the outer limit holds again after it.
        before = self._wait
        now = time.monotonic()
        # The time before the wait does not count against it.
        self._progress = now
        self._said = 0
        self._wait = Wait(reason, limit, now)
        try:
            yield
        finally:
            self.beat()
            self._wait = before

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            # Read once: the training's thread may end its wait at any moment.
            wait = self._wait
            limit = wait.limit if wait else self.timeout_seconds

            # Armed anew each time: it acts where this thread is stuck as well.
            faulthandler.dump_traceback_later(limit + LAST_RESORT_SECONDS, exit=True, file=self.log_file)
            idle = time.monotonic() - self._progress
            if idle >= limit or self._asked(self.is_called, False):
                self._end(idle)

            lost = self._asked(self.lost, "")
            if lost:
                print(f"{lost}; this rank ends as well", file=self.log_file, flush=True)
                os._exit(EXIT_FAILED)

            if wait:
                self._say(wait)

    def _asked(self, question: Callable[[], T], otherwise: T) -> T:
        try:
            return question()
        except Exception:  # whom it asks may be gone, which is no hang of this rank
            return otherwise

    def _say(self, wait: Wait) -> None:
        """Say once a timeout that something takes long."""
        waited = time.monotonic() - wait.since
        times = int(waited // self.timeout_seconds)
        if times > self._said:
            self._said = times
            log.warning("waiting for %s, for %.0f s so far", wait.reason, waited)

    def _end(self, idle: float) -> None:
        """Write every thread's stack, look into the hang, and end this process."""
        # The look into the hang may hang itself. Then this timer ends the process.
        faulthandler.dump_traceback_later(LAST_RESORT_SECONDS, exit=True, file=self.log_file)
        try:
            # Not by logging, whose lock the thread that hangs may hold.
            print(f"no step for {idle:.0f} s; every thread's stack:", file=self.log_file, flush=True)
            faulthandler.dump_traceback(file=self.log_file, all_threads=True)
            self.investigate(idle)
        except Exception:
            log.exception("the hang could not be investigated")
        finally:
            # Without clean-up, which would wait for the very thread that hangs.
            os._exit(EXIT_FAILED)

    def __enter__(self) -> Watchdog:
        # A crash in C code leaves its stacks in the log as well.
        faulthandler.enable(file=self.log_file)
        faulthandler.register(signal.SIGUSR1, file=self.log_file, all_threads=True)  # stacks on demand
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        # Otherwise the timer would end the process after the training.
        faulthandler.cancel_dump_traceback_later()

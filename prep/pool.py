"""Workers on one node: each takes tasks until none is left, as others here and elsewhere do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from jobs.catalog.errors import UserError
from prep.claims import Claims
from prep.job import work_dir
from prep.stages import Stage

POLL = 0.2
"""Seconds between looks at the workers, and at what others finished."""
PATIENCE = 3.0
"""An idle worker waits this many times its own longest task; then it does a slow worker's as well."""
SHORTEST_PATIENCE = 60.0
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a worker that got SIGTERM: it cleans up first."""
RESTARTS = 3
"""Times a worker slot is filled again after its process was killed."""


def work_off(stage: Stage, claims: Claims, first: int, do: Callable[[int], None]) -> bool:
    """Do a stage's tasks, from ``first`` on and around, until all are done by whomever; False: our parent is gone."""
    left = [(first + index) % stage.count for index in range(stage.count)]
    longest, idle_since = 0.0, time.monotonic()
    parent = os.getppid()
    while left := [index for index in left if not stage.is_done(index)]:
        impatient = time.monotonic() - idle_since > max(SHORTEST_PATIENCE, PATIENCE * longest)
        for index in left:
            name = f"{stage.name}-{index:05d}"
            if stage.is_done(index) or not (claims.take(name) or impatient):
                continue
            began = time.monotonic()
            with claims.held(name):
                if stage.is_done(index):  # by another, between our look and our claim
                    continue
                do(index)
            longest, impatient = max(longest, time.monotonic() - began), False
            idle_since = time.monotonic()
            if os.getppid() != parent:
                return False
        if any(not stage.is_done(index) for index in left):
            time.sleep(POLL)
            if os.getppid() != parent:
                return False
    return True


def _enter(target: Callable[..., None], errors: Any, threads: int, arguments: Sequence[Any]) -> None:
    """What a worker process runs: a user's error goes to the parent in words; SIGTERM leaves no half file behind."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    try:
        target(*arguments)
    except UserError as error:
        errors.put((error.message, error.hint, error.code))
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)


class Pool:
    """Processes that run ``target(*arguments, slot)``; a killed one is replaced, one that fails ends all."""

    def __init__(
        self, output: Path, target: Callable[..., None], arguments: Sequence[Any], workers: int
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._errors = self._context.SimpleQueue()
        self._claims = Claims(work_dir(output) / "claims", stale=float("inf"))
        self._target, self._arguments = target, arguments
        self._threads = max(1, cores() // workers)
        self._restarts = [RESTARTS] * workers
        self._processes = [self._start(slot) for slot in range(workers)]

    def _start(self, slot: int) -> BaseProcess:
        arguments = (self._target, self._errors, self._threads, (*self._arguments, slot))
        process = self._context.Process(target=_enter, args=arguments, daemon=True)
        process.start()
        return process

    def running(self) -> bool:
        """Whether a worker is still at it. Raises the UserError of one that failed."""
        if not self._errors.empty():
            message, hint, code = self._errors.get()
            raise UserError(message, hint=hint, code=code)
        for slot, process in enumerate(self._processes):
            code = process.exitcode
            if not code:
                continue
            self._claims.drop(f"{socket.gethostname()}:{process.pid}")
            ended_by_others = code < 0 or code == TERMINATED
            if not ended_by_others or not self._restarts[slot]:
                raise self._failure(code)
            self._restarts[slot] -= 1
            self._processes[slot] = self._start(slot)
        return any(process.exitcode is None for process in self._processes)

    def _failure(self, code: int) -> UserError:
        if not self._errors.empty():
            message, hint, code = self._errors.get()
            return UserError(message, hint=hint, code=code)
        how = (
            f"ended with {code}"
            if code > 0
            else f"was killed by signal {-code}, and so were those in its place"
        )
        return UserError(f"a worker {how}", hint="what is done stays; run the same command again", code=1)

    def stop(self) -> None:
        for process in self._processes:
            if process.exitcode is None:
                process.terminate()
        for process in self._processes:
            process.join()
            self._claims.drop(f"{socket.gethostname()}:{process.pid}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

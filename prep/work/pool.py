"""Workers on one node: each takes tasks until none is left, as others here and elsewhere do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from jobctl.jobs.core import memory_kill
from jobctl.jobs.core.errors import UserError
from jobctl.prep.work.claims import POLL, Claims, owner
from jobctl.prep.work.job import work_dir
from jobctl.prep.work.stages import Stage

PATIENCE = 3.0
SHORTEST_PATIENCE = 60.0
STRANGERS_PATIENCE = 600.0
"""An idle worker does another's task as well that takes more than so many times its own longest one, more than the
shortest in seconds; one that has not done a task itself waits longer."""
LONGEST_POLL = 5.0
"""Seconds between looks of a worker that has been idle for long: of a thousand at the end of a job most are."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a worker that got SIGTERM: it cleans up first."""
LESS_MEMORY = "fewer --workers"
RESTARTS = 3
"""Times a worker slot is filled again after its process was killed."""


def work_off(stage: Stage, claims: Claims, first: int, do: Callable[[int], None]) -> bool:
    """Do a stage's tasks, from ``first`` on and around, until all are done by whomever; False: our parent is gone."""
    left = [(first + index) % stage.count for index in range(stage.count)]
    longest = 0.0
    idle_since = time.monotonic()
    parent = os.getppid()

    while left := stage.undone(left):
        patience = max(SHORTEST_PATIENCE, PATIENCE * longest) if longest else STRANGERS_PATIENCE
        for index in left:
            name = f"{stage.name}-{index:05d}"
            if stage.is_done(index) or not claims.take(name, patience):
                continue

            began = time.monotonic()

            with claims.held(name):
                if stage.is_done(index):  # by another, between our look and our claim
                    continue

                do(index)

            idle_since = time.monotonic()
            longest = max(longest, idle_since - began)
            if os.getppid() != parent:
                return False

        if any(not stage.is_done(index) for index in left):
            time.sleep(min(max(POLL, (time.monotonic() - idle_since) / 8), LONGEST_POLL))
            if os.getppid() != parent:
                return False

    return True


def _enter(target: Callable[..., None], errors: Any, threads: int, arguments: Sequence[Any]) -> None:
    """What a worker process runs: a user's error goes to the parent in words; SIGTERM leaves no half file behind."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, which ends its workers
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))

    try:
        target(*arguments)
    except UserError as error:
        errors.put((error.message, error.hint, error.code))
        sys.exit(error.code)


class Pool:
    """Processes that run ``target(*arguments, slot)``; a killed one is replaced, one that fails ends all.

    They are forks of this one, which has no threads then: what it has loaded, they need not load again.
    """

    def __init__(
        self, output: Path, target: Callable[..., None], arguments: Sequence[Any], workers: int
    ) -> None:
        self._memory = memory_kill.watch()
        self._context = multiprocessing.get_context("fork")
        self._errors = self._context.SimpleQueue()
        self._claims = Claims(work_dir(output) / "claims", stale=float("inf"))
        self._target = target
        self._arguments = arguments
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

        codes = [process.exitcode for process in self._processes]  # looked at once: they may end meanwhile
        for slot, code in enumerate(codes):
            if not code:
                continue

            self._claims.drop(owner(self._processes[slot].pid))
            ended_by_others = code < 0 or code == TERMINATED
            if not ended_by_others or not self._restarts[slot]:
                raise self._failure(code)

            print(f"a worker {ending(code)}; another takes its place", file=sys.stderr)
            self._restarts[slot] -= 1
            self._processes[slot] = self._start(slot)

        return any(code != 0 for code in codes)  # at work, or just replaced

    def wait(self, seconds: float) -> None:
        """Until a worker ends, but no longer than this."""
        wait([process.sentinel for process in self._processes if process.exitcode is None], seconds)

    def _failure(self, code: int) -> UserError:
        if not self._errors.empty():
            message, hint, code = self._errors.get()
            return UserError(message, hint=hint, code=code)

        how = ending(code) if code > 0 else f"{ending(code)}, and so were those in its place"
        hint = "what is done stays; run the same command again"

        # The kernel kills without a word; its counters tell whether memory was the reason.
        memory = self._memory.report(LESS_MEMORY).removeprefix("error: ").strip()
        return UserError(f"a worker {how}" + (f": {memory}" if memory else ""), hint=hint, code=1)

    def stop(self) -> None:
        for process in self._processes:
            if process.exitcode is None:
                process.terminate()

        for process in self._processes:
            process.join()
            self._claims.drop(owner(process.pid))


def ending(code: int) -> str:
    """Say in words how a process ended."""
    return f"ended with {code}" if code > 0 else f"was killed by signal {-code}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

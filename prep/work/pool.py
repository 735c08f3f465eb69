"""The workers of one node. Each takes tasks until none is left, like the workers on other nodes."""

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
"""Patience of an idle worker with a task of another worker. After it, the idle worker also does the task.

It is PATIENCE times its own longest task, and at least SHORTEST_PATIENCE seconds. A worker that has done no
task itself waits for STRANGERS_PATIENCE seconds.
"""
LONGEST_POLL = 5.0
"""Seconds between the checks of a worker that is idle for long.

At the end of a job most of a thousand workers are idle.
"""
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a worker that got SIGTERM and cleaned up."""
LESS_MEMORY = "fewer --workers"
RESTARTS = 3
"""The number of times that a killed worker is replaced."""


def work_off(stage: Stage, claims: Claims, first: int, do: Callable[[int], None]) -> bool:
    """Do the tasks of a stage, beginning with ``first``, until all are done by any worker.

    Return False if the parent process is gone.
    """
    # The workers begin at different tasks, so that they seldom meet at one claim.
    undone = [(first + index) % stage.count for index in range(stage.count)]
    longest = 0.0
    idle_since = time.monotonic()
    parent = os.getppid()

    while undone := stage.undone(undone):
        patience = max(SHORTEST_PATIENCE, PATIENCE * longest) if longest else STRANGERS_PATIENCE
        for index in undone:
            name = f"{stage.name}-{index:05d}"
            if stage.is_done(index) or not claims.take(name, patience):
                continue

            began = time.monotonic()

            with claims.held(name):
                # Another worker may have done it between our check and our claim.
                if stage.is_done(index):
                    continue

                do(index)

            idle_since = time.monotonic()
            longest = max(longest, idle_since - began)
            # The parent was killed, and can no longer end its workers.
            if os.getppid() != parent:
                return False

        # Other workers are still at these tasks, and one of them may die.
        if any(not stage.is_done(index) for index in undone):
            # The pauses grow, because all idle workers ask the same file system.
            time.sleep(min(max(POLL, (time.monotonic() - idle_since) / 8), LONGEST_POLL))
            if os.getppid() != parent:
                return False

    return True


def _enter(target: Callable[..., None], errors: Any, threads: int, arguments: Sequence[Any]) -> None:
    """Run ``target`` in a worker process.

    Send a UserError to the parent in words. SIGTERM leaves no half file behind.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))

    # Ctrl-C also reaches the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # The encoders' threads of all workers together are not more than the cores.
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))

    try:
        target(*arguments)
    except UserError as error:
        errors.put((error.message, error.hint, error.code))
        sys.exit(error.code)


class Pool:
    """Processes that run ``target(*arguments, slot)``. A killed one is replaced. One that fails ends all.

    They are forks of this process, so they need not load its modules and data again. It must have no threads
    at that time.
    """

    def __init__(
        self, output: Path, target: Callable[..., None], arguments: Sequence[Any], workers: int
    ) -> None:
        # Before the workers start: the kernel's counter may hold earlier kills.
        self._memory = memory_kill.watch()
        self._context = multiprocessing.get_context("fork")
        self._errors = self._context.SimpleQueue()
        # Only to drop claims of this pool's own workers, for which none is ever stale.
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
        """Return True if a worker is still at work. Raises the UserError of a worker that failed."""
        # The error in words comes first, since the exit code of its worker says less.
        if not self._errors.empty():
            message, hint, code = self._errors.get()
            raise UserError(message, hint=hint, code=code)

        # The codes are read only once: a worker may end during the check.
        codes = [process.exitcode for process in self._processes]
        for slot, code in enumerate(codes):
            # None is a worker that is still at work, 0 one that is done.
            if not code:
                continue

            # Its tasks are free at once, and not only when the claims are stale.
            self._claims.drop(owner(self._processes[slot].pid))
            ended_by_others = code < 0 or code == TERMINATED
            if not ended_by_others or not self._restarts[slot]:
                raise self._failure(code)

            print(f"a worker {ending(code)}; another takes its place", file=sys.stderr)
            self._restarts[slot] -= 1
            self._processes[slot] = self._start(slot)

        return any(code != 0 for code in codes)  # at work, or just replaced

    def wait(self, seconds: float) -> None:
        """Wait until a worker ends, at most ``seconds``."""
        wait([process.sentinel for process in self._processes if process.exitcode is None], seconds)

    def _failure(self, code: int) -> UserError:
        # The error may have come between the first look and the end of the worker.
        if not self._errors.empty():
            message, hint, code = self._errors.get()
            return UserError(message, hint=hint, code=code)

        ended = ending(code) if code > 0 else f"{ending(code)}, and so were its replacements"
        hint = "finished work is kept; run the same command again"

        # The kernel kills without a message. Its counters show if memory was the reason.
        memory = self._memory.report(LESS_MEMORY).removeprefix("error: ").strip()
        return UserError(f"a worker {ended}" + (f": {memory}" if memory else ""), hint=hint, code=1)

    def stop(self) -> None:
        # All workers get the signal before the first wait, so that they end at the same time.
        for process in self._processes:
            if process.exitcode is None:
                process.terminate()

        for process in self._processes:
            process.join()
            # A worker that was killed could not release its tasks.
            self._claims.drop(owner(process.pid))


def ending(code: int) -> str:
    """Return a description of a process's end."""
    return f"ended with {code}" if code > 0 else f"was killed by signal {-code}"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

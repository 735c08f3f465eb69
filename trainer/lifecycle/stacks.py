"""The stacks of this process, and of the processes that read data for it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from jobctl.trainer.lifecycle.dump import Frame, Worker

FRAMES = 40
"""Frames of a stack that are told."""
ANSWER_SECONDS = 2.0
"""Seconds in which workers must write their stacks."""
QUIET_SECONDS = 0.1
LINE = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')
"""The form of a frame in faulthandler's output."""


def main_stack() -> tuple[Frame, ...]:
    """Return the main thread's stack, the innermost frame first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames: list[Frame] = []
    while frame is not None and len(frames) < FRAMES:
        frames.append(Frame(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back

    return tuple(frames)


def state_of(pid: int) -> str:
    """Return the letter that proc(5) gives for a process; empty if it is gone or cannot be looked up."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

    return text.rpartition(")")[2].split()[0]


def data_workers(log: TextIO) -> tuple[Worker, ...]:
    """Return the processes that read data for this one; their stacks are written into ``log`` as well."""
    pids = sorted(child.pid for child in multiprocessing.active_children() if child.pid)
    workers = []

    for pid in pids:
        state = state_of(pid)
        # A process that is stopped or gone would not answer the signal.
        stack = () if state in ("", "T", "Z") else stack_of(pid, log)
        workers.append(Worker(pid, state, stack))

    return tuple(workers)


def stack_of(pid: int, log: TextIO) -> tuple[Frame, ...]:
    """Ask another process for its stacks; its main thread's. It writes to the same ``log`` as this one."""
    # Opened anew, so that reading has a position of its own.
    path = f"/proc/self/fd/{log.fileno()}"
    try:
        with open(path, errors="replace") as written:
            # Only what is written from now on is the answer.
            written.seek(0, os.SEEK_END)
            os.kill(pid, signal.SIGUSR1)
            text = ""
            deadline = time.monotonic() + ANSWER_SECONDS

            # The answer has no mark at its end, so a pause ends it.
            while time.monotonic() < deadline:
                more = written.read()
                if text and not more:  # it has written all of it
                    break

                text += more
                time.sleep(QUIET_SECONDS)
    except OSError:  # the log is no file, or the process has just ended
        return ()

    return last_thread(text)


def last_thread(text: str) -> tuple[Frame, ...]:
    """Return the last stack of faulthandler's text, which is the main thread's, the innermost frame first."""
    frames: list[Frame] = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match:
            frames.append(Frame(match["file"], int(match["line"]), match["function"]))
        elif line.startswith(("Thread ", "Current thread ")):
            frames.clear()

    return tuple(frames[:FRAMES])

"""How far a job is: each worker keeps one small file, and whoever wants to know adds them up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from prep.claims import OWNER
from prep.job import work_dir

EVERY = 0.5
"""Seconds between writes of a worker's file."""
SILENT = 60.0
"""Seconds after which a worker no longer counts as running."""


class Worker(msgspec.Struct, kw_only=True):
    """What one worker process is doing; counts are of the task it is at, except ``tokens_done``."""

    owner: str
    task: str = ""
    source_bytes: int = 0
    tokens: int = 0
    tokens_done: int = 0
    started: float = 0.0
    updated: float = 0.0


class Status(msgspec.Struct, kw_only=True):
    """The sum over all workers of all nodes; ``seconds_left`` is None where it is unknown."""

    state: str
    tasks: int
    tasks_done: int
    workers: int
    share: float
    source_bytes: int
    source_bytes_done: int
    tokens: int
    tokens_per_second: float
    bytes_per_second: float
    seconds_left: float | None


def folder(output: Path) -> Path:
    return work_dir(output) / "progress"


class Reporter:
    """A worker's own file. A file that cannot be written is no reason to stop."""

    def __init__(self, output: Path) -> None:
        self.path = folder(output) / f"{OWNER}.json"
        self.worker = Worker(owner=OWNER, started=time.time())
        self._written = 0.0

    def begin(self, task: str) -> None:
        self.worker.task, self.worker.source_bytes, self.worker.tokens = task, 0, 0
        self.write()

    def seen(self, source_bytes: int, tokens: int) -> None:
        self.worker.source_bytes += source_bytes
        self.worker.tokens += tokens
        if time.time() - self._written > EVERY:
            self.write()

    def finish(self) -> None:
        self.worker.tokens_done += self.worker.tokens
        self.begin("")

    def write(self) -> None:
        self._written = self.worker.updated = time.time()
        with contextlib.suppress(OSError):
            aside = self.path.with_name(f".{self.path.name}")
            aside.write_bytes(msgspec.json.encode(self.worker))
            aside.replace(self.path)


def workers(output: Path) -> list[Worker]:
    """Every worker that ever reported."""
    found = []
    for path in folder(output).glob("[!.]*.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Worker))
    return found


def status(
    found: Iterable[Worker],
    *,
    state: str,
    tasks: int,
    tasks_done: int,
    size: int,
    size_done: int,
    tokens_done: int,
) -> Status:
    """Add up what the workers report and what is done: pure but for the clock."""
    now = time.time()
    running = [worker for worker in found if now - worker.updated < SILENT]
    read = min(size, size_done + sum(worker.source_bytes for worker in running))
    rates = [
        ((worker.tokens_done + worker.tokens), max(worker.updated - worker.started, 1e-3))
        for worker in running
    ]
    tokens_per_second = sum(tokens / seconds for tokens, seconds in rates)
    tokens = tokens_done + sum(worker.tokens for worker in running)
    bytes_per_second = tokens_per_second * read / tokens if tokens else 0.0
    return Status(
        state=state,
        tasks=tasks,
        tasks_done=tasks_done,
        workers=len(running),
        share=read / size if size else 1.0,
        source_bytes=size,
        source_bytes_done=read,
        tokens=tokens,
        tokens_per_second=round(tokens_per_second, 1),
        bytes_per_second=round(bytes_per_second, 1),
        seconds_left=round((size - read) / bytes_per_second, 1) if bytes_per_second else None,
    )


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` under an hour."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def bar(now: Status, width: int = 24) -> str:
    """One line: share, shards, tokens, rate, time left."""
    full = int(now.share * width)
    left = "-:--" if now.seconds_left is None else duration(now.seconds_left)
    return (
        f"[{'=' * full}{' ' * (width - full)}] {now.share:6.1%}  {now.tasks_done}/{now.tasks} shards  "
        f"{now.tokens / 1e6:,.1f} M tokens  {now.tokens_per_second / 1e6:.2f} M/s  {left} left"
    )

"""The progress of a job. Each worker keeps one small file, and a reader adds them up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from jobctl.jobs.core.amounts import clock
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import preparation_file
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.prep.shards.format import Meta
from jobctl.prep.shards.statistics import Statistics
from jobctl.prep.work.claims import owner
from jobctl.prep.work.job import work_dir
from jobctl.prep.work.unit import finished, record_file

EVERY = 0.5
"""Seconds between writes of a worker's file."""
PUBLISHED = 2.0
"""Seconds between writes of the job's file."""
BEAT = 5.0
"""Seconds between writes of a worker that is busy with one long document."""
SILENT = 20.0
"""Seconds after which a worker no longer counts as running. Some of its beats may be late."""


class Worker(msgspec.Struct, kw_only=True):
    """The work of one process: bytes read and tokens made in its present task, and in earlier tasks of the stage."""

    owner: str
    stage: str = ""
    task: int | None = None
    read_bytes: int = 0
    tokens: int = 0
    read_before: int = 0
    tokens_before: int = 0
    started: float = 0.0
    updated: float = 0.0


class Done(msgspec.Struct, kw_only=True):
    """The fields that are in the record of any finished task."""

    read_bytes: int
    statistics: Statistics = msgspec.field(default_factory=Statistics)


class Sum(msgspec.Struct, kw_only=True):
    """Sums over the finished tasks of a stage."""

    tasks: int = 0
    read_bytes: int = 0
    tokens: int = 0


class Status(msgspec.Struct, kw_only=True):
    """Sums over all workers of all nodes in the present stage. ``seconds_left`` is None if it is unknown."""

    state: str
    tasks: int
    tasks_done: int
    workers: int
    share: float
    read_bytes: int
    size: int
    tokens: int
    tokens_per_second: float
    bytes_per_second: float
    seconds_left: float | None


def folder(output: Path) -> Path:
    return work_dir(output) / "progress"


class Reporter:
    """The file of one worker. If it cannot be written, the work continues."""

    def __init__(self, output: Path) -> None:
        self.path = folder(output) / f"{owner()}.json"
        self.worker = Worker(owner=owner())
        self._written = 0.0
        self._lock = threading.Lock()

    def beat(self) -> None:
        """Start a thread that writes the file now and then. So a silent worker is a dead one."""

        def write_on() -> None:
            while True:
                time.sleep(BEAT)
                self.write()

        threading.Thread(target=write_on, daemon=True).start()

    def begin(self, stage: str, task: int) -> None:
        # The rates are those of one stage, so the counters begin anew.
        if self.worker.stage != stage:
            self.worker = Worker(owner=self.worker.owner, stage=stage, started=time.time())
        self.worker.task = task
        self.write()

    def seen(self, read_bytes: int, tokens: int) -> None:
        self.worker.read_bytes += read_bytes
        self.worker.tokens += tokens
        if time.time() - self._written > EVERY:
            self.write()

    def finish(self) -> None:
        worker = self.worker
        worker.read_before += worker.read_bytes
        worker.tokens_before += worker.tokens
        worker.task = None
        worker.read_bytes = 0
        worker.tokens = 0
        self.write()

    def write(self) -> None:
        self._written = time.time()
        self.worker.updated = self._written
        # The thread of the beat writes the same file.
        with self._lock, contextlib.suppress(OSError):
            aside = self.path.with_name(f".{self.path.name}")
            aside.write_bytes(msgspec.json.encode(self.worker))
            aside.replace(self.path)


def workers(output: Path) -> list[Worker]:
    """Return every worker that has ever reported."""
    reports = []
    # Names that begin with a dot are left out: those files are being written.
    for path in folder(output).glob("[!.]*.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            reports.append(decode_json(read_regular(path), Worker))

    return reports


class Tally:
    """Sums over the finished tasks of a job's stages.

    Each record is read only once.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._sums: dict[str, tuple[set[int], Sum]] = {}

    def done(self, stage: str) -> Sum:
        """Return the sums over the finished tasks of a stage. Raises UserError for a damaged record."""
        seen, total = self._sums.setdefault(stage, (set(), Sum()))
        for index in finished(self._output, stage) - seen:
            path = record_file(self._output, stage, index)
            try:
                record = decode_json(read_regular(path), Done)
            except msgspec.DecodeError as error:
                hint = f"delete {path} and run the job again"
                raise UserError(f"{path} is damaged: {error}", hint=hint) from None

            seen.add(index)
            total.tasks += 1
            total.read_bytes += record.read_bytes
            total.tokens += record.statistics.total.tokens

        return total


def status(reports: Iterable[Worker], *, state: str, tasks: int, done: Sum, size: int) -> Status:
    """Add up the reports of the workers and the finished tasks.

    ``size`` is the number of bytes that the stage reads.

    It is pure except for the clock.
    """
    now = time.time()
    running = [worker for worker in reports if worker.stage == state and now - worker.updated < SILENT]
    # A task that two workers do at once is counted twice until one of them is done.
    read = min(size, done.read_bytes + sum(worker.read_bytes for worker in running))

    def rate(bytes_or_tokens: Callable[[Worker], int]) -> float:
        # A worker that has just begun must not divide by zero.
        return round(sum(bytes_or_tokens(w) / max(w.updated - w.started, 1e-3) for w in running), 1)

    bytes_per_second = rate(lambda worker: worker.read_before + worker.read_bytes)

    return Status(
        state=state,
        tasks=tasks,
        tasks_done=done.tasks,
        workers=len(running),
        share=read / size if size else float(done.tasks == tasks > 0),
        read_bytes=read,
        size=size,
        tokens=done.tokens + sum(worker.tokens for worker in running),
        tokens_per_second=rate(lambda worker: worker.tokens_before + worker.tokens),
        bytes_per_second=bytes_per_second,
        seconds_left=round((size - read) / bytes_per_second, 1) if bytes_per_second else None,
    )


def publish(output: Path, now: Status) -> None:
    """Write the status for ``jobctl status``, once every few seconds. If that fails, the work continues."""
    path = preparation_file(output)
    with contextlib.suppress(OSError):
        if now.state == "finished" or not path.exists() or time.time() - path.stat().st_mtime > PUBLISHED:
            # The file has its own name, because several nodes publish.
            aside = path.with_name(f".{path.name}.{owner()}")
            aside.write_bytes(msgspec.json.encode(now))
            aside.replace(path)


def whole(meta: Meta, tasks: int) -> Status:
    """Return the status of a data set that is whole."""
    size = sum(source.size for source in meta.sources)
    return Status(
        state="finished",
        tasks=tasks,
        tasks_done=tasks,
        workers=0,
        share=1.0,
        read_bytes=size,
        size=size,
        tokens=meta.tokens,
        tokens_per_second=0.0,
        bytes_per_second=0.0,
        seconds_left=0.0,
    )


def bar(now: Status, width: int = 24) -> str:
    """Return one line: share, tasks, tokens, rates, remaining time."""
    full = int(now.share * width)
    remaining = "--:--:--" if now.seconds_left is None else clock(now.seconds_left)
    done = (
        f"{now.state} [{'=' * full}{' ' * (width - full)}] {now.share:6.1%}  {now.tasks_done}/{now.tasks} tasks  "
        f"{now.tokens / 1e6:,.1f} M tokens"
    )
    if now.state == "finished":
        return done

    if not now.workers:
        return f"{done}  no worker reports"

    rates = f"{now.tokens_per_second / 1e6:.2f} M/s  {now.bytes_per_second / 1e6:.1f} MB/s"
    return f"{done}  {rates}  {remaining} left"

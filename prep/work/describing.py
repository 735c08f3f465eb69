"""The first stage: every node reads a share of the source files for the manifest.

The hashes of a terabyte take one core most of an hour. So the files are divided among the nodes, a large one
in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.manifest import Described, Part, described, parts, size_of
from jobctl.prep.work.claims import Claims
from jobctl.prep.work.job import Job
from jobctl.prep.work.plan import cuts
from jobctl.prep.work.pool import work_off
from jobctl.prep.work.stages import Stage, guarded
from jobctl.prep.work.unit import Seen, record_file, write_record

NAME = "describing"
TASK_BYTES = 256 << 20
"""About the number of bytes that a task reads."""
TASK_FILES = 256
"""The most files of a task. To open a file on a network file system takes a while."""


class Descriptions(msgspec.Struct, kw_only=True):
    """The record of a task."""

    items: list[Described]
    read_bytes: int


def bytes_of(part: Part) -> int:
    return part.edges[-1] - part.edges[0] if part.edges else size_of(part.source)


def tasks_of(wanted: Sequence[Part]) -> list[list[Part]]:
    """Join parts to tasks of about equal size. Every node gets the same result."""
    tasks: list[list[Part]] = []
    # Full from the beginning, so that the first part opens a task.
    filled = TASK_BYTES
    for part in wanted:
        if filled >= TASK_BYTES or len(tasks[-1]) == TASK_FILES:
            tasks.append([])
            filled = 0

        tasks[-1].append(part)
        filled += bytes_of(part)

    return tasks


def describing(output: Path, job: Job, sources: Sequence[Source]) -> Stage:
    """Return the stage that reads the sources for the manifest."""

    def cut(source: Source, size: int) -> Sequence[int]:
        return cuts(source.name, size, job.config.shard_bytes)

    wanted = parts(sources, cut)
    tasks = tasks_of(wanted)

    def do(index: int, seen: Seen) -> None:
        items: list[Described] = []
        for part in tasks[index]:
            items.append(described(part))
            seen(bytes_of(part), 0)

        size = sum(map(bytes_of, tasks[index]))
        write_record(output, NAME, index, Descriptions(items=items, read_bytes=size))

    return Stage(NAME, len(tasks), sum(map(bytes_of, wanted)), output, do)


def describe(stage: Stage, claims: Claims, workers: int, seen: Callable[[int], None]) -> None:
    """Do the tasks of the stage that no other node does. ``seen`` gets the number of bytes read so far."""
    if not stage.count:
        return

    total = 0

    def count(read_bytes: int, tokens: int) -> None:
        nonlocal total
        total += read_bytes
        seen(total)

    def work(slot: int) -> None:
        # The threads begin at different tasks, so that they seldom meet at one claim.
        first = slot * stage.count // workers
        work_off(stage, claims, first, lambda index: guarded(stage, index, count))

    # Threads are enough: hashlib releases the interpreter lock.
    with ThreadPoolExecutor(workers) as pool:
        # The loop raises the error of a thread.
        for _ in pool.map(work, range(workers)):
            pass


def all_described(stage: Stage, sources: Sequence[Source]) -> list[Described]:
    """Return the descriptions from all nodes.

    Raises UserError if another node listed other files than this one.
    """
    items: list[Described] = []
    for index in range(stage.count):
        data = record_file(stage.output, NAME, index).read_bytes()
        items += msgspec.json.decode(data, type=Descriptions).items

    # Each file without a hash must be read, and no file outside of this node's list.
    listed = {source.name for source in sources if not source.sha256}
    read = {item.path for item in items}
    if not listed <= read <= {source.name for source in sources}:
        other = min(listed ^ read)
        raise UserError(
            f"source {other} came or went while the manifest was made",
            hint="wait until nobody writes to the sources, and prepare into a new folder with --output",
        )

    return items

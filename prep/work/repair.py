"""Make lost shards again. The record of a finished task is right only while its shards exist.

A shared disk may be purged, and a file may be damaged. A task writes the same bytes whenever it runs, so it
is enough to forget that it was done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import META_FILE, Shard, check_size, read_meta, token_dtype
from jobctl.prep.sources.files import sha256_of
from jobctl.prep.work.job import Job, work_dir
from jobctl.prep.work.stages import LIST_DOCUMENTS, LIST_KEYS
from jobctl.prep.work.unit import STAGE, finished, record_file


class Made(msgspec.Struct):
    """The part of a task's record that names its shards."""

    shards: tuple[Shard, ...] = ()


def is_whole(output: Path, shard: Shard, vocab_size: int, checksums: bool) -> bool:
    """Return True if a shard has the size of its record, and with ``checksums`` also the same bytes."""
    try:
        check_size(output, shard, token_dtype(vocab_size))
        return not checksums or sha256_of(output / shard.file) == shard.sha256
    except (UserError, OSError):
        return False


def lost_tasks(output: Path, job: Job, checksums: bool) -> Iterator[tuple[str, int]]:
    """Yield the stage and the number of each finished task whose shards are not whole."""
    for stage in (STAGE, "shuffling"):
        for index in sorted(finished(output, stage)):
            try:
                made = msgspec.json.decode(record_file(output, stage, index).read_bytes(), type=Made)
            # A record that cannot be read says nothing about its shards, so they are made again.
            except (msgspec.DecodeError, OSError):
                yield stage, index
                continue

            vocab_size = job.tokens.vocab_size
            if not all(is_whole(output, shard, vocab_size, checksums) for shard in made.shards):
                yield stage, index


def is_finished_and_whole(output: Path, checksums: bool) -> bool:
    """Return True if ``meta.json`` is right and every shard in it is whole."""
    try:
        meta = read_meta(output)
    except UserError:
        return False

    return all(is_whole(output, shard, meta.vocab_size, checksums) for shard in meta.shards)


def forget_lost(output: Path, job: Job, checksums: bool = False) -> int:
    """Forget the tasks whose shards are lost, so that they are done again. Return their number.

    A finished job has removed its lists. If they are needed again, the tasks that made them are forgotten,
    too.
    """
    if is_finished_and_whole(output, checksums):
        return 0

    lost = list(lost_tasks(output, job, checksums))
    if not lost:
        return 0

    # This file marks the data set as whole, so it is removed first: a reader may come at any time.
    (output / META_FILE).unlink(missing_ok=True)

    stages = {stage for stage, _ in lost}
    # Shuffling reads the runs, and only tokenizing can make them again.
    if "shuffling" in stages and not any((work_dir(output) / "runs").glob("*/*.npy")):
        stages.add(STAGE)
        forget_stage(output, STAGE)
        forget_stage(output, LIST_DOCUMENTS)

    # Tokenizing reads the lists of duplicates, and would otherwise keep every duplicate.
    if STAGE in stages and not any((work_dir(output) / "repeated").glob("*.npy")):
        for stage in ("hashing", LIST_KEYS, "matching"):
            forget_stage(output, stage)

    # A task without a record is done again.
    for stage, index in lost:
        record_file(output, stage, index).unlink(missing_ok=True)

    return len(lost)


def forget_stage(output: Path, stage: str) -> None:
    """Forget all tasks of a stage."""
    for index in finished(output, stage):
        with contextlib.suppress(FileNotFoundError):
            record_file(output, stage, index).unlink()

"""The stages of a job in their order: hashing and matching (to remove duplicates), tokenizing, and shuffling.

Each is a list of tasks. Any worker may do them, in any order and more than once. A stage begins when the one
before it is done by all workers, because its tasks follow from the results.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from jobctl.jobs.core.errors import UserError, why_not
from jobctl.prep.encode.identity import identity
from jobctl.prep.select import duplicates
from jobctl.prep.select.selection import SPLITS, Selection
from jobctl.prep.shards.format import Shard, numpy_dtype, token_dtype
from jobctl.prep.shards.sorted_runs import run_file, write_run
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import is_validation_file
from jobctl.prep.work.job import work_dir
from jobctl.prep.work.shuffle import gather, shards_of
from jobctl.prep.work.unit import (
    HELD_OUT,
    HOLD_OUT,
    STAGE,
    Reading,
    Record,
    Seen,
    UnitJob,
    finished,
    load_record,
    prepare,
    record_file,
    write_record,
)

LIST_KEYS = "listing-keys"
LIST_DOCUMENTS = "listing-documents"


@dataclass(frozen=True)
class Stage:
    """Numbered tasks.

    ``do`` gets a function for bytes read and tokens made. ``size`` is the bytes that all tasks read.
    """

    name: str
    count: int
    size: int
    output: Path
    do: Callable[[int, Seen], object]

    def is_done(self, index: int) -> bool:
        return record_file(self.output, self.name, index).exists()

    def undone(self, tasks: Sequence[int]) -> list[int]:
        """Return the tasks that are not done."""
        done = finished(self.output, self.name)
        return [index for index in tasks if index not in done]


class Keys(msgspec.Struct, kw_only=True):
    """The record of a hashed unit."""

    runs: int
    keys: int
    read_bytes: int


class Part(msgspec.Struct, kw_only=True):
    """The record of a task that read runs. ``shards`` are the shards that it made of them."""

    read_bytes: int
    shards: tuple[Shard, ...] = ()


class Runs(msgspec.Struct, kw_only=True):
    """The number of runs of each unit, and the number of keys or tokens in all of them."""

    counts: list[int] = []
    total: int = 0

    def files(self, folder: Path) -> list[Path]:
        """Return all runs in the units' order."""
        return [
            run_file(folder, unit, number)
            for unit, count in enumerate(self.counts)
            for number in range(count)
        ]


class Listing(msgspec.Struct, kw_only=True):
    """The runs of all units, by kind. To read all records takes a while, so it is done once and kept."""

    runs: dict[str, Runs]
    read_bytes: int = 0


def listing(work: UnitJob, name: str, runs_of: Callable[[int], dict[str, tuple[int, int]]]) -> Stage:
    """Return a stage with one task, whose record is a Listing.

    ``runs_of`` returns the runs and the total by kind.
    """

    def do(task: int, seen: Seen) -> None:
        by_kind: dict[str, Runs] = {}
        for unit in range(len(work.units)):
            for kind, (count, total) in runs_of(unit).items():
                runs = by_kind.setdefault(kind, Runs())
                # One entry for each unit, also without runs: the place in the list is the unit's number.
                runs.counts.append(count)
                runs.total += total

        write_record(work.output, name, task, Listing(runs=by_kind))

    return Stage(name, 1, 0, work.output, do)


def listed(work: UnitJob, name: str) -> dict[str, Runs]:
    """Return the result of the listing stage ``name``."""
    return msgspec.json.decode(record_file(work.output, name, 0).read_bytes(), type=Listing).runs


# -- duplicates ----------------------------------------------------------------------------------------------


def hash_unit(work: UnitJob, index: int, seen: Seen) -> None:
    """Write the keys of a unit's documents.

    Broken lines are reported later by tokenizing, which reads them again.
    """
    selection = work.selection()
    near = work.job.config.duplicates == "near"
    writer = duplicates.KeyWriter(work_dir(work.output) / "keys", index)
    reading = Reading(seen)

    for piece in work.units[index]:
        is_from_validation = is_validation_file(piece.source.name, work.job.entry)
        for batch in read(piece, work.job.entry, work.files[piece.source.name], lambda broken: None, reading):
            for document in selection.kept(batch, is_from_validation):
                writer.add(document.digest, duplicates.band_keys(identity(document.text)) if near else ())

    # The last run is on the disk before the record, which marks the unit as done.
    writer.flush()
    write_record(
        work.output, "hashing", index, Keys(runs=writer.runs, keys=writer.keys, read_bytes=reading.bytes)
    )


def key_runs(work: UnitJob, index: int) -> dict[str, tuple[int, int]]:
    record = msgspec.json.decode(record_file(work.output, "hashing", index).read_bytes(), type=Keys)
    return {"keys": (record.runs, record.keys)}


def matching(work: UnitJob) -> Stage:
    """Return the stage that compares all keys. The keys of all units must be listed."""
    keys = listed(work, LIST_KEYS)["keys"]
    folder = work_dir(work.output)
    parts = duplicates.parts_of(keys.total)

    def do(part: int, seen: Seen) -> None:
        runs = keys.files(folder / "keys")
        target = folder / "repeated" / f"{part:05d}.npy"
        # A key has three columns of 64 bits.
        size = 24 * duplicates.match(runs, target, part, parts)
        seen(size, 0)
        write_record(work.output, "matching", part, Part(read_bytes=size))

    return Stage("matching", parts, 24 * keys.total, work.output, do)


# -- the source's own validation split -----------------------------------------------------------------------


def holding_out(work: UnitJob) -> Stage:
    """Return the stage that hashes the source's own validation split, with one task for each file."""
    entry = work.job.entry
    pieces = [piece for unit in work.units for piece in unit if is_validation_file(piece.source.name, entry)]

    def do(task: int, seen: Seen) -> None:
        piece = pieces[task]
        selection = Selection(entry, work.job.config, identity=work.encoders.identity)
        reading = Reading(seen)
        halves: list[int] = []
        for batch in read(piece, entry, work.files[piece.source.name], lambda broken: None, reading):
            # The upper half is enough: 64 bits tell the documents of a validation split apart.
            halves += [document.digest >> 64 for document in selection.kept(batch, True)]

        write_run(
            work_dir(work.output) / HELD_OUT / f"{task:05d}.npy",
            np.unique(np.array([halves], np.uint64))[None],
        )
        write_record(work.output, HOLD_OUT, task, Part(read_bytes=reading.bytes))

    # A piece that is a whole file has no bounds.
    size = sum(piece.stop - piece.start or work.files[piece.source.name].size for piece in pieces)
    return Stage(HOLD_OUT, len(pieces), size, work.output, do)


# -- shuffling -----------------------------------------------------------------------------------------------


def document_runs(work: UnitJob, index: int) -> dict[str, tuple[int, int]]:
    record = load_record(work.output, index)
    return {split: (record.runs[split], tokens_of(record, split)) for split in SPLITS}


def tokens_of(record: Record, split: str) -> int:
    counts = record.statistics.splits
    return counts[split].tokens if split in counts else 0


def shuffling(work: UnitJob) -> Stage:
    """Return the stage that shuffles, with one task for each shard. The runs of all units must be listed."""
    runs = listed(work, LIST_DOCUMENTS)
    vocab_size = work.job.tokens.vocab_size
    itemsize = numpy_dtype(token_dtype(vocab_size)).itemsize
    limit = work.job.config.shard_bytes
    sizes = {split: itemsize * runs[split].total for split in SPLITS}
    counts = {split: shards_of(size, limit) for split, size in sizes.items()}
    tasks = [(split, index) for split in SPLITS for index in range(counts[split])]

    def do(task: int, seen: Seen) -> None:
        split, index = tasks[task]
        reading = Reading(seen)
        shards = gather(
            runs[split].files(work_dir(work.output) / "runs" / split),
            work.output,
            split=split,
            index=index,
            count=counts[split],
            size=sizes[split],
            vocab_size=vocab_size,
            limit=limit,
            read=reading,
        )

        write_record(work.output, "shuffling", task, Part(read_bytes=reading.bytes, shards=shards))

    return Stage("shuffling", len(tasks), sum(sizes.values()), work.output, do)


# -- all of them ---------------------------------------------------------------------------------------------


def stages(work: UnitJob) -> Iterator[Stage]:
    """Yield the stages of the job. Ask for a stage only when those before it are done."""
    size = sum(file.size for file in work.files.values())
    count = len(work.units)
    if work.job.entry.validation_files:
        # This stage is first: the filters of every later stage leave out documents of the validation split.
        yield holding_out(work)

    # Duplicates are found before tokenizing, which leaves them out.
    if work.job.config.duplicates != "keep":
        yield Stage("hashing", count, size, work.output, partial(hash_unit, work))
        yield listing(work, LIST_KEYS, partial(key_runs, work))
        yield matching(work)

    yield Stage(STAGE, count, size, work.output, partial(prepare, work))
    # A shard takes documents of all units, so all of them must be tokenized.
    if work.job.config.shuffle:
        yield listing(work, LIST_DOCUMENTS, partial(document_runs, work))
        yield shuffling(work)


def guarded(stage: Stage, index: int, seen: Seen) -> None:
    """Do a task. Turn an error of the file system into a UserError in words."""
    output = stage.output
    try:
        stage.do(index, seen)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and (stage.is_done(index) or (output / "meta.json").exists()):
            # Another worker was faster, and the end of the job has cleared the folder.
            return

        hint = "to continue, run the same command again; finished work is kept"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(why_not(error, output), hint=f"free some of it; {hint}", code=1) from None

        raise UserError(f"cannot write {output}: {error}", hint=hint, code=1) from None


def shards(work: UnitJob, units: list[Record]) -> list[Shard]:
    """Return all shards of a finished job: training first, then validation."""
    made = [shard for record in units for shard in record.shards]
    if work.job.config.shuffle:
        for task in range(shuffling(work).count):
            data = record_file(work.output, "shuffling", task).read_bytes()
            made += msgspec.json.decode(data, type=Part).shards

    return [shard for split in SPLITS for shard in made if shard.split == split]

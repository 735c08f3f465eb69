"""Prepare one unit of the plan: source pieces become shards and a record.

A second run gives the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.prep.encode.encoder import NO_IDS, Encoder, count_of, differing, with_ends
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.select.duplicates import Repeated
from jobctl.prep.select.selection import NO_HALVES, SPLITS, Chosen, Evidence, Halves, Selection
from jobctl.prep.shards.format import Shard, SourceFile
from jobctl.prep.shards.output import Series
from jobctl.prep.shards.statistics import Statistics
from jobctl.prep.sources.batches import Broken
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import is_validation_file
from jobctl.prep.work.job import Job, work_dir
from jobctl.prep.work.plan import Unit
from jobctl.prep.work.shuffle import RunWriter

STAGE = "tokenizing"
HOLD_OUT = "holding-out"
HELD_OUT = "held-out"
"""The stage that reads the source's own validation split, and the folder of the hashes of its documents."""
CHECKED_FIRST = 2
CHECKED_SHARE = 1 / 4096
CHECKED_TEXT = 500_000
"""The spot check compares the first documents of a unit and this share of the others, up to CHECKED_TEXT characters."""
Seen = Callable[[int, int], None]
"""A function that gets the number of source bytes read and of tokens made."""
MANY_BROKEN = 100
"""The number of rejects before their share is checked. A few broken lines at the beginning mean nothing."""
REJECTS = "rejects.jsonl"
"""The file of all rejected lines of a job, in its output folder."""


class Record(msgspec.Struct, kw_only=True):
    """The result of a unit: its shards, or the number of runs of each split.

    The unit is done if it exists.
    """

    shards: tuple[Shard, ...]
    runs: dict[str, int]
    statistics: Statistics
    encoder: str
    read_bytes: int
    lines: int
    first_reject: str = ""
    evidence: Evidence = msgspec.field(default_factory=Evidence)


class Reading:
    """Count the bytes that a task reads, and pass them on to ``seen``."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.bytes = 0

    def __call__(self, size: int) -> None:
        self.bytes += size
        self._seen(size, 0)


class MismatchError(Exception):
    """The fast encoder and the reference gave a document different ids."""


class SpotCheck:
    """Compare a sample of the encoder's texts with the reference. The sample is the same in every run."""

    def __init__(self, encoder: Encoder, encoders: Encoders) -> None:
        self.encoder = encoder
        self.encoders = encoders
        self._characters_left = CHECKED_TEXT
        self._first = CHECKED_FIRST

    def sample(self, chosen: Chosen) -> list[str]:
        texts = []
        for document in chosen.documents:
            if self._first > 0 or (document.digest & 0xFFFFFFFF) < CHECKED_SHARE * 2**32:
                if len(document.text) <= self._characters_left:
                    texts.append(document.text)
                    self._characters_left -= len(document.text)

                self._first -= 1

        return texts

    def see(self, chosen: Chosen) -> None:
        """Raise MismatchError if the ids of a sampled document differ."""
        # This encoder is the reference itself.
        if self.encoder.name == "tokenizers":
            return

        texts = self.sample(chosen)
        wrong = differing(self.encoders.reference, self.encoder, texts) if texts else None
        if wrong is not None:
            raise MismatchError(texts[wrong][:200])


class Rejects:
    """The reject file of a unit, with one JSON object for each broken line.

    ``check`` raises UserError if their share is too large.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.found = list[Broken]()

    def see(self, broken: Broken) -> None:
        self.found.append(broken)

    @property
    def first(self) -> str:
        """Return the place of the first broken line and the reason; empty without any."""
        if not self.found:
            return ""
        broken = self.found[0]
        return f"{broken.file} line {broken.line}: {broken.reason}"

    def check(self, documents: int) -> None:
        """Compare the share of broken lines with the limit."""
        # A unit may have no documents at all.
        share = len(self.found) / max(documents + len(self.found), 1)
        if share > self.limit:
            raise UserError(
                f"{len(self.found)} of {documents + len(self.found)} source lines are broken, more than the "
                f"share of {self.limit:g} that is allowed; "
                f"the first: {self.first}",
                hint="look at rejects.jsonl, or allow more with --max-reject-share",
            )

    def write(self, path: Path) -> None:
        lines = [msgspec.json.encode(broken._asdict()) for broken in self.found]
        write_whole(path, b"".join(line + b"\n" for line in lines))


def record_file(output: Path, stage: str, index: int) -> Path:
    """Return the path of a task's record. The task is done if the file exists."""
    return work_dir(output) / "done" / stage / f"{index:05d}.json"


def finished(output: Path, stage: str) -> set[int]:
    """Return the finished tasks of a stage, from one listing of its folder."""
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(work_dir(output) / "done" / stage)
        # A name that begins with a dot is that of a file that is being written.
        return {int(name.removesuffix(".json")) for name in names if name[0] != "."}
    return set()


def write_record(output: Path, stage: str, index: int, record: msgspec.Struct) -> None:
    write_whole(record_file(output, stage, index), msgspec.json.encode(record))


def load_record(output: Path, index: int) -> Record:
    """Return the record of a unit.

    Raises FileNotFoundError if it is not done, UserError if the record is damaged.
    """
    path = record_file(output, STAGE, index)
    try:
        return decode_json(read_regular(path), Record)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is damaged: {error}", hint=f"delete {path} and run the job again") from None


def reject_file(output: Path, index: int) -> Path:
    return work_dir(output) / "rejects" / f"{index:05d}.jsonl"


def write_rejects(output: Path, units: Iterable[int]) -> None:
    """Write the rejected lines of ``units`` into one file, in their order. Write no file if there are none."""
    parts = [reject_file(output, index).read_bytes() for index in units]
    if any(parts):
        write_whole(output / REJECTS, b"".join(parts))


@dataclass(frozen=True)
class UnitJob:
    """The state of a worker between tasks: the job, its plan, the manifest's entries by name, the encoders."""

    job: Job
    output: Path
    units: list[Unit]
    files: dict[str, SourceFile]
    encoders: Encoders

    def opened(self, split: str, index: int) -> Series | RunWriter:
        """Open the output for a unit's documents: its shards, or runs that are sorted later."""
        vocab_size = self.job.tokens.vocab_size
        config = self.job.config
        if config.shuffle:
            folder = work_dir(self.output) / "runs" / split
            return RunWriter(folder, index=index, vocab_size=vocab_size, seed=config.shuffle)

        return Series(
            self.output,
            split=split,
            index=index,
            count=len(self.units),
            vocab_size=vocab_size,
            limit=config.shard_bytes,
        )

    def selection(self, repeated: Repeated | None = None) -> Selection:
        """Return the filters of the job. ``repeated`` are the duplicates of a unit."""
        held_out = self.held_out()
        return Selection(self.job.entry, self.job.config, repeated, held_out, self.encoders.identity)

    def repeated(self, index: int) -> Repeated | None:
        """Return the duplicates of a unit. The stages before must be done."""
        if self.job.config.duplicates == "keep":
            return None

        # The records decide, not the folder, which is cleared at the end of the job.
        parts = sorted(finished(self.output, "matching"))
        folder = work_dir(self.output) / "repeated"
        return Repeated([folder / f"{part:05d}.npy" for part in parts], index)

    def held_out(self) -> Halves:
        """Return the upper halves of the hashes of the source's own validation split, sorted; empty without one."""
        if not self.job.entry.validation_files:
            return NO_HALVES

        folder = work_dir(self.output) / HELD_OUT
        parts = [np.load(folder / f"{index:05d}.npy")[0] for index in sorted(finished(self.output, HOLD_OUT))]
        return np.unique(np.concatenate([NO_HALVES, *parts]))


def write_batch(
    work: UnitJob, chosen: Chosen, writer: Series | RunWriter, statistics: Statistics, encoder: Encoder
) -> int:
    """Encode and append one split's documents of a batch, and then their further copies.

    Return the number of tokens.
    """
    eos = work.job.tokens.eos_id
    bos = work.job.tokens.bos_id if work.job.config.add_bos else None
    controls = work.encoders.file.sorted_control_ids
    # The end of a document may be a control token, too. It is not one of the text.
    controls_of_ends = count_of(with_ends([NO_IDS], eos, bos)[0], controls)

    encoded = encoder.encode(chosen.texts, chosen.looks)
    pairs = list(zip(chosen.documents, encoded, strict=True))
    tokens = 0

    for time in itertools.count(1):
        documents, texts = zip(*pairs, strict=True)
        ids, lengths = with_ends(texts, eos, bos)
        sizes = np.fromiter((document.size for document in documents), np.int64, len(documents))
        writer.write(ids, lengths, sizes)
        statistics.see(chosen.split, [document.label for document in documents], lengths, sizes)
        tokens += len(ids)
        # Only once: the further copies are the same texts.
        if time == 1:
            statistics.control_tokens += count_of(ids, controls) - len(documents) * controls_of_ends

        # A document is encoded once, even if it is written several times.
        pairs = [pair for pair in pairs if pair[0].times > time]
        if not pairs:
            break

    return tokens


def stop_if_too_many(work: UnitJob, index: int, rejects: Rejects, documents: int) -> None:
    """Raise UserError if too many lines of unit ``index`` are broken. Leave the lines for the user to look at."""
    try:
        rejects.check(documents)
    except UserError:
        rejects.write(reject_file(work.output, index))
        known = [unit for unit in range(len(work.units)) if reject_file(work.output, unit).exists()]
        write_rejects(work.output, known)
        raise


def attempt(work: UnitJob, index: int, encoder: Encoder, seen: Seen) -> Record:
    """Prepare unit ``index`` with ``encoder``. ``seen`` gets the source bytes and tokens as they are done."""
    job = work.job
    selection = work.selection(work.repeated(index))
    statistics = Statistics()
    rejects = Rejects(job.config.max_reject_share)
    spot = SpotCheck(encoder, work.encoders)
    reading = Reading(seen)
    lines = 0

    with contextlib.ExitStack() as stack:
        writers = {split: work.opened(split, index) for split in SPLITS}
        for writer in writers.values():
            stack.enter_context(writer)

        for piece in work.units[index]:
            is_from_validation = is_validation_file(piece.source.name, job.entry)
            for batch in read(piece, job.entry, work.files[piece.source.name], rejects.see, reading):
                lines += len(batch.texts)
                if len(rejects.found) > MANY_BROKEN:
                    stop_if_too_many(work, index, rejects, lines)

                for chosen in selection.choose(batch, is_from_validation):
                    spot.see(chosen)
                    seen(0, write_batch(work, chosen, writers[chosen.split], statistics, encoder))

        shards = tuple(shard for split in SPLITS for shard in writers[split].close())

    statistics.left_out = dict(selection.left_out)
    statistics.rejected = len(rejects.found)
    rejects.write(reject_file(work.output, index))

    return Record(
        shards=shards,
        runs={split: writer.runs for split, writer in writers.items() if isinstance(writer, RunWriter)},
        statistics=statistics,
        encoder=encoder.name,
        read_bytes=reading.bytes,
        lines=lines,
        first_reject=rejects.first,
        evidence=selection.evidence,
    )


def prepare(work: UnitJob, index: int, seen: Seen) -> Record:
    """Prepare one unit, write its record and return it. After a mismatch, do it again with the reference."""
    try:
        record = attempt(work, index, work.encoders.fast, seen)
    # The unit is done again from its beginning: its earlier documents may also be wrong.
    except MismatchError:
        record = attempt(work, index, work.encoders.reference, seen)

    # It is written after the shards: the record marks the unit as done.
    write_record(work.output, STAGE, index, record)
    return record

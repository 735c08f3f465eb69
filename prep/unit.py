"""One unit of the plan: its source pieces in, its shards and its record out. Done again.

It gives the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from jobs.catalog.errors import UserError
from prep.documents import Broken, read
from prep.encoders import Encoder, differing, with_ends
from prep.job import Job, work_dir
from prep.plan import Unit
from prep.selection import SPLITS, Chosen, Selection
from prep.shards import Shard, ShardWriter, SourceFile, write_whole
from prep.statistics import Statistics

CHECKED_FIRST = 4
CHECKED_SHARE = 1 / 512
CHECKED_TEXT = 1_000_000
"""The spot check: the first documents of a unit and this share of the others, up to this many characters."""
MANY_BROKEN = 100
"""Rejects before their share is looked at."""


class Record(msgspec.Struct, kw_only=True):
    """What a unit left: its presence says that the unit is done."""

    shards: tuple[Shard, ...]
    statistics: Statistics
    encoder: str
    source_bytes: int
    lines: int


class MismatchError(Exception):
    """The fast encoder and the reference gave a document different ids."""


class SpotCheck:
    """Compares a deterministic sample of what an encoder is given with the reference."""

    def __init__(self, encoder: Encoder, reference: Encoder) -> None:
        self.encoder, self.reference = encoder, reference
        self._left, self._first = CHECKED_TEXT, CHECKED_FIRST

    def sample(self, chosen: Chosen) -> list[str]:
        texts = []
        for text, digest in zip(chosen.texts, chosen.digests, strict=True):
            if self._first > 0 or (digest & 0xFFFFFFFF) < CHECKED_SHARE * 2**32:
                if len(text) <= self._left:
                    texts.append(text)
                    self._left -= len(text)
                self._first -= 1
        return texts

    def see(self, chosen: Chosen) -> None:
        """Raise MismatchError where a sampled document's ids differ."""
        if self.encoder is self.reference:
            return
        texts = self.sample(chosen)
        wrong = differing(self.reference, self.encoder, texts) if texts else None
        if wrong is not None:
            raise MismatchError(texts[wrong][:200])


class Rejects:
    """The reject file of a unit: one JSON object a broken line.

    Raises UserError when their share is too large.
    """

    def __init__(self, limit: float) -> None:
        self.limit, self.found = limit, list[Broken]()

    def see(self, broken: Broken) -> None:
        self.found.append(broken)

    def check(self, documents: int) -> None:
        """Hold the share of broken lines against the limit."""
        share = len(self.found) / max(documents + len(self.found), 1)
        if share > self.limit:
            first = self.found[0]
            raise UserError(
                f"{len(self.found)} of {documents + len(self.found)} source lines are broken, more than the "
                f"share of {self.limit:g} that is allowed; "
                f"the first: {first.file} line {first.line}: {first.reason}",
                hint="look at the source, or allow more with --max-reject-share",
            )

    def write(self, path: Path) -> None:
        lines = [msgspec.json.encode(broken._asdict()) for broken in self.found]
        write_whole(path, b"".join(line + b"\n" for line in lines))


def shard_name(split: str, index: int, count: int) -> str:
    """``train.bin`` where there is one unit, else ``train-00000-of-00064.bin``."""
    return f"{split}.bin" if count == 1 else f"{split}-{index:05d}-of-{count:05d}.bin"


def record_file(output: Path, index: int) -> Path:
    return work_dir(output) / "done" / f"{index:05d}.json"


def load_record(output: Path, index: int) -> Record:
    """Raises FileNotFoundError where the unit is not done, UserError where its record is damaged."""
    path = record_file(output, index)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is damaged: {error}", hint=f"delete {path} and run the job again") from None


def reject_file(output: Path, index: int) -> Path:
    return work_dir(output) / "rejects" / f"{index:05d}.jsonl"


@dataclass(frozen=True)
class UnitJob:
    """What a worker holds between units: the job, the plan.

    The manifest's entries and the loaded encoders.
    """

    job: Job
    output: Path
    units: list[Unit]
    files: dict[str, SourceFile]
    encoder: Encoder
    reference: Encoder


def write_batch(
    work: UnitJob, chosen: Chosen, writer: ShardWriter, statistics: Statistics, encoder: Encoder
) -> None:
    """Encode one split's documents of a batch and append them to its shard."""
    bos = work.job.tokens.bos_id if work.job.config.add_bos else None
    encoded = with_ends(encoder.encode(chosen.texts), work.job.tokens.eos_id, bos)
    sizes = np.array(chosen.sizes, dtype=np.int64)
    writer.write(encoded.ids, documents=len(chosen.texts), text_bytes=int(sizes.sum()))
    statistics.see(chosen.split, chosen.labels, np.diff(encoded.offsets), sizes)


def attempt(work: UnitJob, index: int, encoder: Encoder, seen: Callable[[int, int], None]) -> Record:
    """Prepare unit ``index`` with ``encoder``. ``seen`` is told source bytes and tokens as they are done."""
    job, unit = work.job, work.units[index]
    selection, statistics = Selection(job), Statistics()
    rejects, spot = Rejects(job.config.max_reject_share), SpotCheck(encoder, work.reference)
    lines = source_bytes = 0

    def read_bytes(size: int) -> None:
        nonlocal source_bytes
        source_bytes += size
        seen(size, 0)

    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                ShardWriter(
                    work.output / shard_name(split, index, len(work.units)),
                    split=split,
                    vocab_size=job.tokens.vocab_size,
                )
            )
            for split in SPLITS
        }
        for piece in unit:
            for batch in read(piece, job.entry, work.files[piece.source.name], rejects.see, read_bytes):
                lines += len(batch.texts)
                if len(rejects.found) > MANY_BROKEN:
                    rejects.check(lines)
                for chosen in selection.choose(batch):
                    spot.see(chosen)
                    before = writers[chosen.split].tokens
                    write_batch(work, chosen, writers[chosen.split], statistics, encoder)
                    seen(0, writers[chosen.split].tokens - before)
        shards = tuple(writers[split].close() for split in SPLITS)
    statistics.left_out, statistics.rejected = dict(selection.left_out), len(rejects.found)
    rejects.write(reject_file(work.output, index))
    return Record(
        shards=shards, statistics=statistics, encoder=encoder.name, source_bytes=source_bytes, lines=lines
    )


def prepare(work: UnitJob, index: int, seen: Callable[[int, int], None]) -> Record:
    """Prepare one unit, with the reference where the fast encoder was caught.

    Write its record and return it.
    """
    try:
        try:
            record = attempt(work, index, work.encoder, seen)
        except MismatchError:
            record = attempt(work, index, work.reference, seen)
        write_whole(record_file(work.output, index), msgspec.json.encode(record))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and record_file(work.output, index).exists():
            return load_record(work.output, index)  # another worker was faster, and the job is at its end
        hint = "the shards that are done stay; run the same command again to go on"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left for {work.output}", hint=f"free some; {hint}", code=1) from None
        raise UserError(f"cannot write {work.output}: {error}", hint=hint, code=1) from None
    return record

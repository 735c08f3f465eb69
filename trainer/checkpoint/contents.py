"""Read and check the small files of a checkpoint, before any tensor is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import decode_json
from jobctl.trainer.checkpoint import legacy
from jobctl.trainer.checkpoint.integrity import (
    Checksums,
    Damaged,
    content_sum,
    later_format,
    read_checksums,
    read_small,
    size_problems,
)
from jobctl.trainer.checkpoint.state import STATE_FILE, State, decode_state
from jobctl.trainer.checkpoint.table import TABLE_FORMAT, Table, problems_of
from jobctl.trainer.distributed import World

TABLE_FILE = "table.json"


@dataclasses.dataclass(frozen=True)
class Contents:
    """A checkpoint whose small files are whole: its state, and the places of its tensors."""

    folder: Path
    state: State
    table: Table
    checksums: Checksums


def read_contents(folder: Path) -> Contents:
    """Read everything except the tensors. Raises Damaged, or UserError if a later version wrote it."""
    checksums = read_checksums(folder)
    if checksums.old_files:
        return read_old_contents(folder, checksums)

    # Sizes first: they show a truncated file without reading any.
    sizes = {name: record.size for name, record in checksums.files.items()}
    if problems := size_problems(folder, sizes.items()):
        raise Damaged(problems)

    table = decode_table(checked(folder, TABLE_FILE, checksums), folder)
    state = decode_state(checked(folder, STATE_FILE, checksums), folder)
    if problems := problems_of(table, sizes):
        raise Damaged(problems)

    return Contents(folder, state, table, checksums)


def read_old_contents(folder: Path, checksums: Checksums) -> Contents:
    """Read everything except the tensors of a checkpoint that torch's distributed checkpoint wrote."""
    sizes = {name: record.size for name, record in checksums.old_files.items()}
    if problems := size_problems(folder, sizes.items()):
        raise Damaged(problems)

    # The table is a pickle, so it is not parsed before its checksum is right.
    small = {STATE_FILE, legacy.METADATA_FILE}
    absent = sorted(small - checksums.old_files.keys())
    if absent:
        raise Damaged([f"checksums.json does not name {absent[0]}"])

    if problems := legacy.damage(folder, {name: checksums.old_files[name] for name in small}):
        raise Damaged(problems)

    table = legacy.read_table(folder)
    state = decode_state(read_small(folder / STATE_FILE), folder)
    if problems := problems_of(table, sizes):
        raise Damaged(problems)

    return Contents(folder, state, table, checksums)


def checked(folder: Path, name: str, checksums: Checksums) -> bytes:
    """Return the content of a small file. Raises Damaged if its checksum does not match."""
    if name not in checksums.files:
        raise Damaged([f"checksums.json does not name {name}"])

    data = read_small(folder / name)
    if content_sum(data) != checksums.files[name].xxh3_128:
        raise Damaged([f"{name}: its checksum does not match"])

    return data


def decode_table(data: bytes, folder: Path) -> Table:
    try:
        # The format first: a later one may have other fields, and is no damage.
        format = decode_json(data, Formatted).format
        if format > TABLE_FORMAT:
            raise later_format(folder, TABLE_FILE, format, TABLE_FORMAT)

        return decode_json(data, Table)
    except msgspec.DecodeError as error:
        raise Damaged([f"{TABLE_FILE}: {error}"]) from None


class Formatted(msgspec.Struct, frozen=True):
    """The format number of any of the JSON files."""

    format: int


def read_contents_together(world: World, folder: Path) -> Contents:
    """Return the same contents on every rank. Only rank 0 reads, and every rank raises the error of rank 0.

    For a checkpoint of the older format all ranks also check the checksums, each for its share of the files.
    """
    answer: Contents | Damaged | UserError | None = None
    if world.is_main:
        try:
            answer = read_contents(folder)
        except (Damaged, UserError) as error:
            answer = error

    # One reader: a network file system may show other ranks an older folder for a while.
    answer = world.from_main(answer)
    if not isinstance(answer, Contents):
        raise answer

    # Each rank checks its share, and all of them meet in `gathered`, also ranks without a file.
    old_files = sorted(answer.checksums.old_files.items())[world.rank :: world.size]
    problems = world.gathered(legacy.damage(folder, dict(old_files)))
    if any(problems):
        raise Damaged([line for lines in problems for line in lines])

    return answer

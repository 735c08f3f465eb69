"""``checksums.json``: the sizes and checksums that the files of a whole checkpoint have."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import xxhash

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint.table import FILE_NAME

CHECKSUMS_FILE = "checksums.json"
CHECKSUMS_FORMAT = 2
"""Format 1 had no number: a plain map from names to sizes and SHA-256 sums."""


class Damaged(Exception):
    """A checkpoint that cannot be loaded as it is. ``problems`` has one line for each file or tensor."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


Record = TypeVar("Record", "FileRecord", "OldFileRecord")


class FileRecord(msgspec.Struct, frozen=True):
    """The size in bytes, and the checksum of a small file. The checksums of tensor data are in the table."""

    size: int
    xxh3_128: str = ""


class OldFileRecord(msgspec.Struct, frozen=True):
    """The size and the checksum of a file in a checkpoint of the older format."""

    size: int
    sha256: str


class Checksums(msgspec.Struct, frozen=True):
    """``checksums.json`` of either format. One of the two maps is empty."""

    files: dict[str, FileRecord]
    old_files: dict[str, OldFileRecord]


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    files: dict[str, FileRecord]


def encode_checksums(small_files: dict[str, bytes], data_files: dict[str, int]) -> bytes:
    """Return ``checksums.json`` for the content of the small files and the sizes of the data files."""
    records = {name: FileRecord(len(data), content_sum(data)) for name, data in small_files.items()}
    records |= {name: FileRecord(size) for name, size in data_files.items()}
    return msgspec.json.encode(_Stored(CHECKSUMS_FORMAT, records))


def content_sum(data: bytes) -> str:
    return xxhash.xxh3_128(data).hexdigest()


def read_checksums(folder: Path) -> Checksums:
    """Read ``checksums.json``.

    Raises Damaged if it is absent or damaged, UserError if its format is a later one.
    """
    data = read_small(folder / CHECKSUMS_FILE)

    try:
        content = msgspec.json.decode(data)
        if not isinstance(content, dict) or not content:
            raise Damaged([f"{CHECKSUMS_FILE}: it names no files"])

        if not isinstance(content.get("format"), int):
            old = msgspec.convert(content, dict[str, OldFileRecord])
            return Checksums({}, check_names(old))

        if content["format"] > CHECKSUMS_FORMAT:
            raise later_format(folder, CHECKSUMS_FILE, content["format"], CHECKSUMS_FORMAT)

        return Checksums(check_names(msgspec.convert(content, _Stored).files), {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged([f"{CHECKSUMS_FILE}: {error}"]) from None


def later_format(folder: Path, name: str, format: int, newest: int) -> UserError:
    """Return the error for a file that a later version of the trainer wrote."""
    return UserError(
        f"checkpoint {folder}: {name} has format {format}, this version reads up to format {newest}",
        hint="resume with the version that wrote it, or choose another --run_dir",
    )


def check_names(files: dict[str, Record]) -> dict[str, Record]:
    """Return ``files``. Raises Damaged for a name that leaves the folder."""
    # The names come from a file of the folder, and they are opened beside it.
    outside = [name for name in files if not is_plain(name)]
    if outside:
        raise Damaged([f"{CHECKSUMS_FILE}: {outside[0]!r} is no name of a file beside it"])
    return files


def is_plain(name: str) -> bool:
    return FILE_NAME.fullmatch(name.removeprefix(".")) is not None


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[int]:
    """Open a regular file to read, and yield its descriptor. Raises OSError.

    A link is refused, and so is a pipe, which could block for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file", str(path))

        yield descriptor
    finally:
        os.close(descriptor)


def read_small(path: Path) -> bytes:
    """Return the content of a small file. Raises Damaged."""
    try:
        # `open_regular` closes the descriptor itself.
        with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise Damaged([f"{path.name}: {error.strerror}"]) from None


def size_problems(folder: Path, sizes: Iterable[tuple[str, int]]) -> list[str]:
    """Return one line for each file that is absent or has another size."""
    # All faults are gathered, so that one look tells them all.
    problems = []
    for name, expected in sizes:
        try:
            with open_regular(folder / name) as descriptor:
                size = os.fstat(descriptor).st_size
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
            continue

        if size != expected:
            problems.append(f"{name}: {size} bytes instead of {expected}")

    return problems

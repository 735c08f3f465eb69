"""Send the files of a folder through a pipe. A line of JSON comes before each, and no file comes twice.

The receiver does not trust the names and sizes. Nothing is written outside the folder, over a link, or beyond
the free space on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.copying import FILES, aside, files_below
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.folder import CHUNK, Folder
from jobctl.jobs.core.names import UnsafeName, parts_of, shown

LINE_BYTES = 1 << 20
"""The longest line, in bytes. It contains one name, or the sums of all files."""
LARGEST = 1 << 62
"""A number above any size of a file, and above any time in nanoseconds."""
NAMED = 5
"""The largest number of omitted files that messages name one by one."""


class OtherWords(Exception):
    """Instead of files came the mark at the end of all output.

    The other side has refused, and has printed the reason.
    """

    def __init__(self, mark: bytes) -> None:
        super().__init__("no files came")
        self.mark = mark


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: the number of files, and the number and size of those that will come."""

    files: int
    coming: int
    bytes: int
    skipped: int = 0
    named: tuple[str, ...] = ()
    """The first of the skipped files, each with its reason."""


class Came(msgspec.Struct, kw_only=True):
    """The result of a transfer of files."""

    sums: Sums
    copied: int = 0
    refused: list[str] = []
    is_whole: bool = False
    """True if all expected files came."""


def known_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and time of each file below a folder."""
    known: dict[str, tuple[int, int]] = {}
    if folder.is_dir():
        for name in files_below(folder, []):
            if not name.isprintable():  # a request cannot name it, so it comes again
                continue

            facts = (folder / name).lstat()
            known[name] = (facts.st_size, facts.st_mtime_ns)

    return known


def send(source: Path, here: Mapping[str, tuple[int, int]], out: BinaryIO) -> None:
    """Write each file below ``source``, unless ``here`` has it with the same size and time.

    Follow no link.
    """
    skipped: list[str] = []
    wanted: list[str] = []
    size = 0
    count = 0
    for name in files_below(source, skipped):
        count += 1
        try:
            facts = (source / name).lstat()
        except FileNotFoundError:  # an old checkpoint, or a file that was aside
            continue

        if here.get(name) != (facts.st_size, facts.st_mtime_ns):
            wanted.append(name)
            size += facts.st_size

    sums = Sums(
        files=count, coming=len(wanted), bytes=size, skipped=len(skipped), named=tuple(skipped[:NAMED])
    )
    _write_line(out, msgspec.to_builtins(sums))
    origin = Folder(source)
    for name in wanted:
        _send_file(origin, name, out)

    _write_line(out, {"end": True})


def _send_file(origin: Folder, name: str, out: BinaryIO) -> None:
    try:
        content = origin.read(name)
    except (OSError, UnsafeName) as error:
        _write_line(out, {"name": name, "reason": getattr(error, "strerror", None) or str(error)})
        return

    with content:
        facts = os.fstat(content.fileno())
        _write_line(out, {"name": name, "size": facts.st_size, "time": facts.st_mtime_ns})
        # The line above has promised this many bytes, so a file that grows is cut here.
        remaining = facts.st_size
        while remaining and (piece := content.read(min(CHUNK, remaining))):
            out.write(piece)
            remaining -= len(piece)

        # It became shorter while it was read. Its time has changed too, so the next copy takes it again.
        while remaining:
            piece = bytes(min(CHUNK, remaining))
            out.write(piece)
            remaining -= len(piece)


def _write_line(out: BinaryIO, facts: Mapping[str, object]) -> None:
    # Write ASCII: a name may contain bytes that are not text. Python's JSON escapes them, msgspec's does not.
    out.write(json.dumps(facts).encode("ascii") + b"\n")


def receive(stream: BinaryIO, into: Path, tell: Callable[[str], None]) -> Came:
    """Write the files that come. Each gets its name when it is complete.

    Raises UserError if they do not fit on the disk, and for lines that describe no file. Raises
    ConnectionError if nothing comes, OtherWords if no files come, and OSError if ``into`` cannot be written.
    """
    came = Came(sums=_sums(stream))
    if came.sums.files > FILES:
        raise UserError(f"the run has {came.sums.files} files; at most {FILES} are taken", code=1)

    # Check before the first file: half a copy on a full disk is useless.
    _check_space(into, came.sums.bytes)
    folder = Folder(into)

    # Use our limit: the other side may send files without end. The last line is not a file.
    for _ in range(FILES + 1):
        facts = _line(stream)
        if facts is None:
            return came

        if facts.get("end") is True:
            came.is_whole = True
            return came

        if not _receive_file(stream, folder, facts, came):
            return came

        if came.copied % 100 == 0:
            tell(f"{came.copied} of {came.sums.coming} files")

    raise UserError(f"more than {FILES} files came", code=1)


def _sums(stream: BinaryIO) -> Sums:
    facts = _line(stream)
    if facts is None:
        raise ConnectionError("the list of files did not come")

    try:
        return msgspec.convert(facts, Sums)
    except msgspec.ValidationError as error:
        raise UserError(f"no list of files came: {error}", code=1) from None


def _line(stream: BinaryIO) -> dict[str, object] | None:
    """Return the next line of facts, or None if the stream has broken off.

    Raises UserError for any other line.
    """
    line = stream.readline(LINE_BYTES)
    if line.startswith(b"\0"):
        raise OtherWords(line)

    # A line without its end is the last one of a stream that broke off.
    if not line.endswith(b"\n") and len(line) < LINE_BYTES:
        return None

    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        facts = None

    if not isinstance(facts, dict):
        raise UserError(f"a line that describes no file came: {shown(repr(line[:60]))}", code=1)

    return facts


def _receive_file(stream: BinaryIO, folder: Folder, facts: Mapping[str, object], came: Came) -> bool:
    """Receive one file. Return whether all of it came."""
    name = facts.get("name")
    if isinstance(name, str) and "reason" in facts:
        came.refused.append(f"{shown(name)}: {facts['reason']}")
        return True

    size = _number(facts.get("size"))
    time = _number(facts.get("time"))
    if not isinstance(name, str) or size < 0 or time < 0:
        raise UserError(f"a line that describes no file came: {shown(repr(facts))}", code=1)

    try:
        parts_of(name)
        parts_of(aside(name))
        file = folder.create(aside(name))
    except UnsafeName as error:
        came.refused.append(error.message)
        return _pass_over(stream, size)

    # It may have grown since the sums were made.
    _check_space(folder.path, size)
    with file:
        remaining = size
        while remaining and (piece := stream.read(min(CHUNK, remaining))):
            file.write(piece)
            remaining -= len(piece)

        file.flush()
        os.fsync(file.fileno())
        if not remaining:
            # The next copy compares size and time, so the file keeps the time of its source.
            os.utime(file.fileno(), ns=(time, time))

    if remaining:
        folder.remove(aside(name))
        return False

    folder.replace(aside(name), name)
    came.copied += 1

    return True


def _number(value: object) -> int:
    """Return a size or a time, or -1 if the value is neither."""
    return value if isinstance(value, int) and 0 <= value < LARGEST else -1


def _pass_over(stream: BinaryIO, size: int) -> bool:
    # A refused file still comes, before the next one.
    remaining = size
    while remaining and (piece := stream.read(min(CHUNK, remaining))):
        remaining -= len(piece)

    return not remaining


def _check_space(folder: Path, needed: int) -> None:
    """Raise UserError if this number of bytes does not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {short_bytes(free)} free, the run needs {short_bytes(needed)} more",
            hint="name a folder on a larger disk with -o",
            code=1,
        )

"""Read JSON lines: a file, or a piece of one, as batches of documents."""

from __future__ import annotations

import functools
import io
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Piece, Report, whole_text
from jobctl.prep.sources.files import CheckedFile

FEW = 4096
"""The most lines of a block that are searched one by one."""


class Block(NamedTuple):
    """Whole lines, with the number and the offset of the first line, and the places of the line breaks."""

    data: memoryview
    line: int
    offset: int
    breaks: npt.NDArray[np.int64]


def block_of(data: bytes, end: int, line: int, offset: int) -> Block:
    """Return the block of the first ``end`` bytes, with its line breaks, which are searched only once."""
    return Block(memoryview(data)[:end], line, offset, breaks_of(data, end))


def breaks_of(data: bytes, end: int) -> npt.NDArray[np.int64]:
    """Return the places of the line breaks in the first ``end`` bytes."""
    places: list[int] = []
    place = data.find(b"\n", 0, end)
    # A search from one to the next is several times as fast as a look at every byte, unless there are many.
    while place >= 0 and len(places) < FEW:
        places.append(place)
        place = data.find(b"\n", place + 1, end)

    # Otherwise there are many line breaks, and one pass over all bytes is faster.
    if place < 0:
        return np.array(places, np.int64)

    return np.flatnonzero(np.frombuffer(data, np.uint8, end) == ord("\n"))


def lines_of_objects(block: Block) -> int | None:
    """Return the number of lines if each ends with the bracket of an object, else None."""
    codes = np.frombuffer(block.data, np.uint8)
    ends = block.breaks
    # The last line of a file may have no line break.
    if not len(ends) or ends[-1] != len(codes) - 1:
        ends = np.append(ends, len(codes))

    last = codes[ends - 1]
    before_return = codes[ends - 2]
    # Files from Windows have a carriage return before the line break.
    last = np.where(last == ord("\r"), before_return, last)
    # The byte two places before the first end would otherwise be one from the end of the block.
    if ends[0] < 2 or (last != ord("}")).any():
        return None

    return len(ends)


def blocks(stream: BinaryIO, file: str, report: Report, start: int = 0, stop: int = 0) -> Iterator[Block]:
    """Yield whole lines of a stream, several megabytes at a time.

    Report and leave out a line longer than LONGEST.

    With ``stop``, the stream begins at byte ``start - 1`` (or 0), and only lines that begin in [start, stop)
    count.
    """
    rest = b""
    line = 1
    offset = max(start - 1, 0)
    skipping = start > 0  # to the first line break, which may be the byte before `start`

    while chunk := stream.read(BLOCK):
        if skipping:
            begin = chunk.find(b"\n") + 1
            offset += begin or len(chunk)
            if not begin:
                continue

            skipping = False
            chunk = chunk[begin:]

        if stop and offset >= stop:
            return

        whole = rest + chunk
        end = whole.rfind(b"\n", len(rest)) + 1  # `rest` has no line break
        rest = whole[end:]
        if end:
            if stop and offset + end >= stop:
                yield block_of(whole, whole.find(b"\n", stop - 1 - offset) + 1, line, offset)
                return

            block = block_of(whole, end, line, offset)
            yield block
            line += len(block.breaks)
            offset += end

        if len(rest) > LONGEST:
            report(Broken(file, line, offset, f"longer than {LONGEST} bytes", whole_text(rest[:80])))
            offset = offset + len(rest)
            line = line + 1
            rest = b""
            skipping = True

    if rest and not (stop and offset >= stop):
        yield block_of(rest, len(rest), line, offset)


def repaired(line: bytes, fields: Fields) -> Any:
    """Return the record of a line that Python's tolerant parser takes.

    It takes NaN and Infinity. Lone surrogates and bytes that are not UTF-8 become U+FFFD.
    Raises ValueError with the reason why a line is not a document.
    """
    try:
        value = json.loads(whole_text(line))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise ValueError(f"it has more than one JSON value: the second is at {error.pos + 1}") from None

        raise ValueError(f"it is not JSON: {error.msg} at {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None

    return fields.record_of(value)


def parsed(block: Block, fields: Fields, file: str, report: Report) -> list[Any]:
    """Return the records of a block's lines. Report broken lines, and leave out blank ones."""
    try:
        records: list[Any] = fields.decoded_lines(block.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # One of the lines is broken. Find it.
        return one_by_one(block, fields, file, report)

    # The decoder reads two values on one line as two lines, and skips blank lines.
    if len(records) == lines_of_objects(block):
        return records

    return one_by_one(block, fields, file, report)


def one_by_one(block: Block, fields: Fields, file: str, report: Report) -> list[Any]:
    """Return the records of a block. Report each broken line with its place."""
    records: list[Any] = []
    offset = block.offset
    for number, line in enumerate(bytes(block.data).split(b"\n"), block.line):
        if line.strip():
            try:
                records.append(record_of_line(line, fields))
            except ValueError as error:
                report(Broken(file, number, offset, str(error), whole_text(line[:80])))

        offset += len(line) + 1

    return records


def record_of_line(line: bytes, fields: Fields) -> Any:
    """Return the record of one line. Raises ValueError with the reason why it is not a document."""
    try:
        return fields.decoded(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return repaired(line, fields)


def from_lines(piece: Piece, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read one JSON object from each line. A byte order mark before the first line is skipped."""
    report = numbered(piece, report)
    for block in blocks(stream, piece.source.name, report, piece.start, piece.stop):
        if block.offset == 0 and bytes(block.data[: len(BOM_UTF8)]) == BOM_UTF8:
            data = block.data[len(BOM_UTF8) :]
            block = Block(data, block.line, len(BOM_UTF8), block.breaks - len(BOM_UTF8))

        yield fields.batch(parsed(block, fields, piece.source.name, report))


def numbered(piece: Piece, report: Report) -> Report:
    """Return ``report`` with line numbers of the whole file instead of the piece."""
    if not piece.start:
        return report

    @functools.cache
    def before() -> int:
        """Count the lines before the first line of the piece. This is done only for a broken line."""
        # A network file system may also be away here.
        with CheckedFile(piece.source.path) as raw, io.BufferedReader(raw) as file:
            sizes = [BLOCK] * ((piece.start - 1) // BLOCK) + [(piece.start - 1) % BLOCK]
            return 1 + sum(file.read(size).count(b"\n") for size in sizes)

    return lambda broken: report(broken._replace(line=broken.line + before()))

"""Read ``.json`` files that are not lines: an array of objects, or objects over several lines.

The file is never parsed as a whole. A pass over its bytes finds the end of each value. The values then go
through the same parser as lines. So a broken value is rejected and the others are kept.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Report, whole_text
from jobctl.prep.sources.lines import record_of_line

WHITE = b" \t\r\n"
HEAD = 1 << 16
"""Bytes at the beginning of a file that show its form."""


class Value(NamedTuple):
    """The bytes of one value, without the separator after it, and their place in the text."""

    data: bytes
    offset: int


def form_of(head: bytes) -> str:
    """Return the form by a file's beginning.

    It is ``array``, ``values`` (objects over several lines) or ``lines``.
    """
    text = head.removeprefix(BOM_UTF8).lstrip(WHITE)
    if text.startswith(b"["):
        return "array"

    first = text.split(b"\n")[0].rstrip(WHITE)
    # A first line that ends with a bracket is a whole object, so such a file has lines.
    printed_over_lines = text.startswith(b"{") and b"\n" in text and not first.endswith(b"}")
    return "values" if printed_over_lines else "lines"


class Splitter:
    """Find the ends of values. The state carries over from one block of bytes to the next."""

    def __init__(self, depth: int) -> None:
        """``depth`` is the number of open brackets around a value: 1 in an array, else 0."""
        self.outside = depth
        self.ended = False
        self._depth = 0
        self._in_string = 0

    @property
    def is_inside(self) -> bool:
        """Return True if a bracket or a string is open."""
        return bool(self._depth or self._in_string)

    def ends(self, block: bytes) -> list[int]:
        """Return the places of the bytes that end a value: in an array commas and its end, otherwise brackets.

        A block must not end inside a run of backslashes.
        """
        # An escaped quote does not end a string. Backslashes occur only in strings, and pair up from the
        # left.
        plain = block.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        codes = np.frombuffer(plain, np.uint8)
        # An odd number of quotes so far means: inside a string. numpy counts a block at once; a loop would
        # take minutes.
        in_string = (np.cumsum(codes == ord('"'), dtype=np.int32) + self._in_string) & 1

        opening = ((codes == ord("{")) | (codes == ord("["))) & (in_string == 0)
        closing = ((codes == ord("}")) | (codes == ord("]"))) & (in_string == 0)
        depth = np.cumsum(opening.astype(np.int32) - closing, dtype=np.int32) + self._depth

        # In an array only its own bracket comes down to 0. Elsewhere the bracket of each value does.
        is_end = closing & (depth <= 0)
        if self.outside:
            is_end |= (codes == ord(",")) & (in_string == 0) & (depth == self.outside)

        if len(block):
            self._depth = int(depth[-1])
            self._in_string = int(in_string[-1])

        return [int(place) for place in np.flatnonzero(is_end)]


class Values:
    """The values of a stream. A value that is longer than LONGEST is reported and left out."""

    def __init__(self, stream: BinaryIO, name: str, report: Report, is_array: bool) -> None:
        self._stream = stream
        self._name = name
        self._report = report
        self._splitter = Splitter(1 if is_array else 0)
        self._is_array = is_array
        self._rest = b""
        self._offset = 0
        self._skipping = False
        self._bracket_seen = False
        self.number = 1

    def __iter__(self) -> Iterator[Value]:
        """Yield the values. Raises EOFError if the text ends inside a value or an array."""
        held = b""
        while data := self._stream.read(BLOCK):
            block = held + data
            # Backslashes at the end of a block belong to the character after them, so they wait for the next
            # block.
            run = len(block) - len(block.rstrip(b"\\"))
            held = block[len(block) - run :]
            yield from self._read(block[: len(block) - run])

        if self._splitter.is_inside:
            raise EOFError("it ends inside a JSON value or array")

        self._rest += held
        if self._rest.strip(WHITE):
            self._reject("there is more text behind the last value", self._rest, self._offset)

    def _read(self, block: bytes) -> Iterator[Value]:
        begin = 0
        for end in self._splitter.ends(block):
            # An object's own bracket is a part of it; a comma and an array's bracket are not.
            stop = end if self._is_array else end + 1
            value = self._rest + block[begin:stop]
            offset = self._offset
            self._offset += len(value) + (end + 1 - stop)
            self._rest = b""
            begin = end + 1

            if not self._skipping:
                yield from self._taken(value, offset)

            self._skipping = False

        self._keep(block[begin:])

    def _taken(self, value: bytes, offset: int) -> Iterator[Value]:
        text = value.removeprefix(BOM_UTF8) if not offset else value
        bare = text.lstrip(WHITE)
        if self._is_array and not self._bracket_seen:
            bare = bare.removeprefix(b"[").lstrip(WHITE)
            self._bracket_seen = True

        if bare.strip(WHITE):
            yield Value(bare.rstrip(WHITE), offset + len(value) - len(bare))
            self.number += 1

    def _keep(self, rest: bytes) -> None:
        """Keep the bytes after the last end. Drop them if their value is too long."""
        self._rest += rest
        if len(self._rest) <= LONGEST and not self._skipping:
            return

        if not self._skipping:
            self._reject(f"longer than {LONGEST} bytes", self._rest, self._offset)
            # The part that was dropped held the array's bracket.
            self._bracket_seen = True

        self._offset += len(self._rest)
        self._rest = b""
        self._skipping = True

    def _reject(self, reason: str, data: bytes, offset: int) -> None:
        self._report(Broken(self._name, self.number, offset, reason, whole_text(data.strip(WHITE)[:80])))
        self.number += 1


def from_values(
    name: str, stream: BinaryIO, fields: Fields, report: Report, is_array: bool
) -> Iterator[Batch]:
    """Read the values of a file. The report of a rejected value has its number in the place of a line."""
    records = []
    size = 0
    values = Values(stream, name, report, is_array)

    for value in values:
        try:
            records.append(record_of_line(value.data, fields))
        except ValueError as error:
            sample = whole_text(value.data[:80])
            report(Broken(name, values.number, value.offset, str(error), sample))
            continue

        size += len(value.data)
        if size >= BLOCK:
            yield fields.batch(records)
            records = []
            size = 0

    yield fields.batch(records)

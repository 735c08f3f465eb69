"""The answer of a jobctl on another machine: its output between two marks, and its exit code.

Before the first mark comes the output of the login itself, such as the greeting of a ``.bashrc``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

BEGIN = b"\0jobctl\n"
_END = re.compile(rb"\0exit (\d{1,3})\n")
LINE_BYTES = 1 << 16
"""The longest line of a greeting, and of the mark at the end, in bytes."""
PIECE_BYTES = 1 << 16


def end_mark(code: int) -> bytes:
    """Return the mark after the output. No text of jobctl has a line with this end."""
    return b"\0exit %d\n" % code


def has_begun(stream: BinaryIO) -> bool:
    """Read up to the first mark. Return whether it came."""
    while line := stream.readline(LINE_BYTES):
        # Compare only the end of the line: a greeting without a line break comes before the mark.
        if line.endswith(BEGIN):
            return True

    return False


def read_output(stream: BinaryIO, write: Callable[[bytes], object]) -> int | None:
    """Give the output to ``write`` as it comes. Return the exit code, or None if the stream breaks off."""
    # A pipe returns the bytes that have come: `read` would wait for a whole piece.
    read = getattr(stream, "read1", stream.read)
    rest = b""
    while piece := rest or read(PIECE_BYTES):
        text, mark, rest = piece.partition(b"\0")
        if text:
            write(text)

        if not mark:
            continue

        line, end, rest = rest.partition(b"\n")
        # Read one line and no more: a process that the command has left behind may keep the stream open.
        line = mark + line + (end or stream.readline(LINE_BYTES))
        text, mark, after = line.rpartition(b"\0")
        code = end_of(mark + after)
        if code is not None:
            write(text)
            return code

        if not line.endswith(b"\n"):
            return None

        # A text that a model has written, or a log, may contain a NUL.
        write(line)

    return None


def end_of(mark: bytes) -> int | None:
    """Return the exit code in the mark at the end, or None if the mark broke off."""
    match = _END.fullmatch(mark)
    return int(match[1]) if match else None

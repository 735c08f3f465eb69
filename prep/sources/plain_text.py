"""Read plain text: one document in a file, or several between separator lines."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Report, whole_text


def too_long(name: str, part: int, offset: int, separator: str, text: bytes) -> Broken:
    """Return the report of a part that is too long for a document."""
    advice = "" if separator else "; name a separator"
    return Broken(name, part, offset, f"longer than {LONGEST} bytes{advice}", whole_text(text[:80]))


def ended_parts(mark: re.Pattern[bytes], text: bytes) -> tuple[list[bytes], int]:
    """Return the parts of ``text`` that end with a separator line.

    Also return the place after the last of these lines.
    """
    parts = list[bytes]()
    begin = 0
    # The last line may go on in the next block, so it is not searched yet.
    for match in mark.finditer(text, 0, text.rfind(b"\n") + 1):
        parts.append(text[begin : match.start()])
        begin = match.end()
    return parts, begin


def from_text(name: str, stream: BinaryIO, separator: str, report: Report) -> Iterator[Batch]:
    """Read a file as one document, or as several between separator lines.

    The last line break of a part is not part of it. An empty part is no document.
    """
    mark = re.compile(rb"^" + re.escape(separator.encode()) + rb"\r?(?:\n|\Z)", re.MULTILINE)
    rest = b""
    offset = 0
    parts = 0
    skipping = False

    while chunk := stream.read(BLOCK):
        if not offset and not rest:
            # A byte order mark at the beginning is not part of the text.
            chunk = chunk.removeprefix(BOM_UTF8)

        rest += chunk
        if separator:
            documents, end = ended_parts(mark, rest)
            offset = offset + end
            rest = rest[end:]
            parts = parts + len(documents)
            if documents and skipping:
                # The first part is the end of the one that was too long.
                documents = documents[1:]
                skipping = False

            yield separated(documents)

        if len(rest) > LONGEST:
            if not skipping:
                report(too_long(name, parts + 1, offset, separator, rest))

            skipping = True
            # The separator may be cut here, so its length is kept. The dash stands for the dropped beginning
            # of the line: without it the rest of a line could look like a separator.
            kept = b"-" + rest[-len(separator.encode()) - 2 :]
            offset = offset + len(rest) - len(kept)
            rest = kept

    # The rest belongs to the part that was too long, and that was reported.
    if skipping:
        return

    yield separated(mark.split(rest)) if separator else Batch([whole_text(rest)], [], [])


def separated(documents: list[bytes]) -> Batch:
    texts = (document.removesuffix(b"\n").removesuffix(b"\r") for document in documents)
    return Batch([whole_text(text) for text in texts if text], [], [])

"""Plain text: one document a file, or several between separator lines."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Report, whole_text


def from_text(name: str, stream: BinaryIO, separator: str, report: Report) -> Iterator[Batch]:
    """Plain text: the file is one document, or its parts between lines that are the separator.

    A part does not have its last line's end; parts without text are none.
    """
    mark = re.compile(rb"^" + re.escape(separator.encode()) + rb"\r?(?:\n|\Z)", re.MULTILINE)
    rest = b""
    offset = 0
    parts = 0
    skipping = False

    while chunk := stream.read(BLOCK):
        if not offset and not rest:
            # A byte order mark at the beginning is no text.
            chunk = chunk.removeprefix(BOM_UTF8)

        rest += chunk
        if separator:
            documents = list[bytes]()
            begin = 0
            for match in mark.finditer(rest, 0, rest.rfind(b"\n") + 1):
                documents.append(rest[begin : match.start()])
                begin = match.end()

            offset = offset + begin
            rest = rest[begin:]
            parts = parts + len(documents)
            if documents and skipping:
                documents = documents[1:]
                skipping = False

            yield separated(documents)

        if len(rest) > LONGEST:
            if not skipping:
                advice = "" if separator else "; name a separator"
                report(
                    Broken(
                        name, parts + 1, offset, f"longer than {LONGEST} bytes{advice}", whole_text(rest[:80])
                    )
                )

            skipping = True
            kept = b"-" + rest[-len(separator.encode()) - 2 :]  # whose beginning is not a line's
            offset = offset + len(rest) - len(kept)
            rest = kept

    if skipping:
        return

    yield separated(mark.split(rest)) if separator else Batch([whole_text(rest)], [], [])


def separated(documents: list[bytes]) -> Batch:
    texts = (document.removesuffix(b"\n").removesuffix(b"\r") for document in documents)
    return Batch([whole_text(text) for text in texts if text], [], [])

"""Read the plain text of WARC files, which web crawls write (``conversion`` and ``resource`` records).

The format is ISO 28500. A record has a version line, named fields, an empty line, and ``Content-Length``
bytes. The text must be extracted already: Common Crawl has it in its WET files. A page of HTML is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Report, whole_text

VERSION = b"WARC/"
LONGEST_HEADER = 1 << 20
"""The most bytes of a record's named fields."""
TEXT = ("conversion", "resource")
"""Types of records that may hold plain text."""
ABOUT = ("warcinfo", "request", "metadata", "revisit")
"""Types of records that describe other records, and hold no document."""


class Header(NamedTuple):
    """The named fields of a record as they are written, its place, and the length of its content in bytes."""

    fields: dict[str, str]
    offset: int
    length: int

    def value(self, name: str) -> str:
        """Return a field by its name in any case, or an empty text if it is absent."""
        return next((value for key, value in self.fields.items() if key.lower() == name), "")


class Bytes:
    """A stream that can be read by lines and by numbers of bytes. It knows its place."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = b""
        self._place = 0
        self.offset = 0

    def _fill(self) -> bool:
        data = self._stream.read(BLOCK)
        self._buffer = self._buffer[self._place :] + data
        self._place = 0
        return bool(data)

    def _taken(self, count: int) -> bytes:
        data = self._buffer[self._place : self._place + count]
        self._place += len(data)
        self.offset += len(data)
        return data

    def line(self) -> bytes:
        """Return the next line with its line break.

        It is empty at the end. Raises ValueError for an endless line.
        """
        while (end := self._buffer.find(b"\n", self._place)) < 0:
            # A header without a line break would otherwise fill the memory.
            if len(self._buffer) - self._place > LONGEST_HEADER:
                raise ValueError(f"at byte {self.offset} is a header without an end")

            if not self._fill():
                return self._taken(len(self._buffer))

        return self._taken(end + 1 - self._place)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes. Raises EOFError if there are fewer."""
        while len(self._buffer) - self._place < count:
            if not self._fill():
                raise EOFError("it ends inside a WARC record")

        return self._taken(count)

    def skip(self, count: int) -> None:
        """Skip ``count`` bytes without keeping them. Raises EOFError if there are fewer."""
        while count:
            count -= len(self.take(min(count, BLOCK)))


def next_header(data: Bytes) -> Header | None:
    """Read up to the content of the next record.

    Return None at the end. Raises ValueError if no record begins here.
    """
    line = b"\r\n"
    # Two empty lines end each record.
    while line in (b"\r\n", b"\n"):
        offset = data.offset
        line = data.line()

    if not line:
        return None

    if not line.startswith(VERSION):
        raise ValueError(f"at byte {offset} no WARC record begins")

    fields: dict[str, str] = {}
    while line := data.line().rstrip(b"\r\n"):
        name, _, value = whole_text(line).partition(":")
        fields[name.strip()] = value.strip()
        if data.offset - offset > LONGEST_HEADER:
            raise ValueError(f"at byte {offset} is a header of more than {LONGEST_HEADER} bytes")

    header = Header(fields, offset, 0)
    length = header.value("content-length")
    # isdigit alone also takes superscripts, at which int fails.
    if not (length.isascii() and length.isdigit()):
        raise ValueError(f"the record at byte {offset} has no Content-Length")

    return header._replace(length=int(length))


def why_not(header: Header) -> str:
    """Return the reason why a record holds no document, or an empty text if it holds one."""
    kind = header.value("warc-type").lower()
    content = header.value("content-type").partition(";")[0].strip().lower()
    if header.length > LONGEST:
        return f"longer than {LONGEST} bytes"

    if kind in TEXT and content in ("text/plain", ""):
        return ""

    return f"a WARC record of type {kind or 'unknown'} with {content or 'unknown'} content: no extracted text"


def from_warc(name: str, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read the plain text of a crawl's records. Their named fields are the fields of the document."""
    data = Bytes(stream)
    records = []
    size = 0
    number = 0

    while True:
        header = next_header(data)
        if header is None:
            break

        number += 1
        reason = why_not(header)
        if reason:
            data.skip(header.length)
            # A record about other records is no document, so its absence is no loss.
            if header.value("warc-type").lower() not in ABOUT:
                report(Broken(name, number, header.offset, reason, header.value("warc-target-uri")[:80]))

            continue

        text = whole_text(data.take(header.length))
        records.append(fields.record(text, *(header.fields.get(root) for root in fields.roots)))
        size += header.length
        if size >= BLOCK:
            yield fields.batch(records)
            records = []
            size = 0

    yield fields.batch(records)

"""``.csv`` and ``.tsv`` files: the first row names the columns, and each further row is a document."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Report, whole_text
from jobctl.prep.sources.kinds import compression
from jobctl.prep.sources.lines import blocks
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.parquet import check_columns


class TextLines:
    """The lines of a stream as text, for Python's csv. It knows the place of the next line.

    A line that is longer than LONGEST is reported and left out.
    """

    def __init__(self, stream: BinaryIO, name: str, report: Report) -> None:
        self.line = 1
        self.offset = 0
        self._blocks = blocks(stream, name, report)

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            data = bytes(block.data)
            self.line = block.line
            self.offset = block.offset

            begin = 0
            while begin < len(data):
                end = data.find(b"\n", begin) + 1 or len(data)
                text = data[begin:end]
                if not self.offset:
                    # Excel writes a byte order mark. With it the first column would have another name.
                    text = text.removeprefix(BOM_UTF8)

                self.line += 1
                self.offset += end - begin
                begin = end
                yield whole_text(text)


def separator_of(name: str) -> str:
    """Return the character that separates the values of a row."""
    bare = name.lower().removesuffix(compression(name))
    return "\t" if bare.endswith(".tsv") else ","


def header_of(source: Source, reader: Iterator[list[str]], fields: Fields) -> list[str]:
    """Return the names of the columns. Raises UserError if the text's column is absent or occurs twice."""
    header = next(reader, [])
    if header:
        check_columns(source, header, fields)

    return header


def from_csv(source: Source, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read the rows of a file. Reject a row whose number of values is not the number of columns."""
    # Python's own limit of 128 KiB is less than many documents have.
    csv.field_size_limit(LONGEST)
    lines = TextLines(stream, source.name, report)
    reader = csv.reader(iter(lines), delimiter=separator_of(source.name), strict=True)
    try:
        header = header_of(source, reader, fields)
    except csv.Error as error:
        raise UserError(f"source {source.path}: its first row is not CSV: {error}") from None

    records = []
    size = 0
    while True:
        # It is taken before the row is read: a row may have several lines, and a report names the first.
        line = lines.line
        offset = lines.offset
        try:
            row = next(reader)
            if row:
                records.append(record_of_row(row, header, fields))
                size += sum(map(len, row))
        except StopIteration:
            break
        except (csv.Error, ValueError) as error:
            report(Broken(source.name, line, offset, str(error), ""))

        if size >= BLOCK:
            yield fields.batch(records)
            records = []
            size = 0

    yield fields.batch(records)


def record_of_row(row: list[str], header: list[str], fields: Fields) -> object:
    """Return the record of a row. Raises ValueError if its length is not that of the header."""
    if len(row) != len(header):
        raise ValueError(f"it has {len(row)} values, the first row names {len(header)} columns")

    values = dict(zip(header, row, strict=True))
    return fields.record(values[fields.text], *(values.get(name) for name in fields.roots))

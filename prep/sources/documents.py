"""Read the documents of one source file of any kind, in batches of a few megabytes."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import zstandard

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources import parquet
from jobctl.prep.sources.arrow import from_arrow, record_batches
from jobctl.prep.sources.batches import BLOCK, Batch, Fields, Piece, Report, Seen, nested_names
from jobctl.prep.sources.csv_rows import TextLines, from_csv, separator_of
from jobctl.prep.sources.files import CheckedFile, check_packed, damaged, decompressed
from jobctl.prep.sources.json_values import HEAD, Values, form_of, from_values
from jobctl.prep.sources.kinds import CUT, TABLES, compression, kind
from jobctl.prep.sources.lines import from_lines
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.parquet import from_parquet
from jobctl.prep.sources.plain_text import from_text
from jobctl.prep.sources.warc import Bytes, from_warc, next_header


def field_names(sources: Sequence[Source]) -> list[str]:
    """Return the fields of the first record in the first file that has one.

    Names of nested fields have dots.
    """
    for source in sources:
        # The names are only for a message. A bad file must not replace the error of that message.
        with contextlib.suppress(UserError, OSError, ValueError, EOFError, StopIteration):
            names = names_in(source)
            if names:
                return names

    return []


def names_in(source: Source) -> list[str]:
    """Return the fields of a file's first record. Raises any error of the file's reader."""
    kind_of_file = kind(source.name)
    if kind_of_file == "parquet":
        return parquet.column_names(source.path)

    with CheckedFile(source.path) as file:
        if kind_of_file == "arrow":
            rows = cast(BinaryIO, io.BufferedReader(file, BLOCK))
            return parquet.names_of(record_batches(rows, source)[0])

        stream = decompressed(cast(BinaryIO, file), compression(source.name))
        if kind_of_file == "csv":
            lines = TextLines(stream, source.name, lambda broken: None)
            return next(csv.reader(iter(lines), delimiter=separator_of(source.name)))

        if kind_of_file == "warc":
            header = next_header(Bytes(stream))
            return list(header.fields) if header else []

        if kind_of_file in CUT:
            return nested_names(first_value(stream, source))

    return []


def first_value(stream: BinaryIO, source: Source) -> object:
    """Return the first value of a JSON file. Raises ValueError if it has none."""
    form = form_of_json(source) if kind(source.name) == "json" else "lines"
    if form == "lines":
        return json.loads(stream.read(BLOCK).split(b"\n")[0])

    values = Values(stream, source.name, lambda broken: None, form == "array")
    return json.loads(next(iter(values)).data)


def hold(piece: Piece, expected: SourceFile, file: CheckedFile) -> None:
    """Raise UserError if the bytes are not those of the manifest. Read the rest of the piece first."""
    while (not piece.stop or file.tell() < piece.stop) and file.read(BLOCK):
        pass

    # A manifest of an earlier version has no hashes of pieces.
    right = piece.sha256 if piece.stop else expected.sha256
    if right and file.sha256 != right:
        raise UserError(
            f"source {piece.source.path} has other bytes than the manifest says",
            hint="restore it (in a mirror: python -m jobctl.prep.mirror --check), or choose a new --output",
        )


def read(
    piece: Piece, entry: DatasetEntry, expected: SourceFile, report: Report, seen: Seen
) -> Iterator[Batch]:
    """Yield every document of a piece in the file's order. At the end compare the bytes with the manifest.

    ``seen`` gets the number of bytes of each read. Raises UserError if the file is damaged, cannot be read,
    or was changed.
    """
    source = piece.source
    fields = Fields(entry)
    try:
        if kind(source.name) in TABLES:
            # A table is read at many places of the file. So a second pass reads it in order, for its hash.
            yield from from_table(source, fields, report)
            with CheckedFile(source.path, seen) as file:
                hold(piece, expected, file)

            return

        check_packed(source.path, compression(source.name))
        with CheckedFile(source.path, seen) as file:
            if piece.stop:
                # A line belongs to the piece in which it begins. So one byte before the piece is read, and
                # some after it.
                file.hash_between(piece.start, piece.stop)
                file.seek(max(piece.start - 1, 0))

            # This variable keeps the stream alive. Without it the file would be closed before its bytes are
            # checked.
            stream = decompressed(cast(BinaryIO, file), compression(source.name))
            yield from from_stream(piece, stream, entry, fields, report)
            hold(piece, expected, file)
    except (zstandard.ZstdError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, ValueError) as error:
        # Each decompressor and each parser has its own error for damaged bytes.
        raise damaged(source.path, error) from None
    except OSError as error:
        if error.errno is None:
            # pyarrow raises OSError also for bytes that it does not understand.
            raise damaged(source.path, error) from None

        raise UserError(
            f"source {source.path} cannot be read: {error.strerror or error}",
            hint="repair it, and run the same command again; finished work is kept",
            code=1,
        ) from None


def from_table(source: Source, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read a file of rows and columns. Its reader moves to any place of the file."""
    with io.BufferedReader(CheckedFile(source.path), BLOCK) as rows:
        reader = from_parquet if kind(source.name) == "parquet" else from_arrow
        yield from reader(source, cast(BinaryIO, rows), fields, report)


def from_stream(
    piece: Piece, stream: BinaryIO, entry: DatasetEntry, fields: Fields, report: Report
) -> Iterator[Batch]:
    """Read a piece of a file whose reader goes from the beginning to the end."""
    source = piece.source
    kind_of_file = kind(source.name)
    form = form_of_json(source) if kind_of_file == "json" else "lines"
    if form != "lines" and piece.start:
        # The values cannot be found from the middle of the file. So the first piece's task reads them all.
        return

    if form != "lines":
        yield from from_values(source.name, stream, fields, report, form == "array")
    elif kind_of_file in CUT:
        yield from from_lines(piece, stream, fields, report)
    elif kind_of_file == "csv":
        yield from from_csv(source, stream, fields, report)
    elif kind_of_file == "warc":
        yield from from_warc(source.name, stream, fields, report)
    else:
        yield from from_text(source.name, stream, entry.separator, report)


def form_of_json(source: Source) -> str:
    """Return the form of a ``.json`` file: ``array``, ``values`` (over several lines) or ``lines``."""
    with CheckedFile(source.path) as file:
        return form_of(decompressed(cast(BinaryIO, file), compression(source.name)).read(HEAD))

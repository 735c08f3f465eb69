"""Documents out of one source file, in batches of a few megabytes, whatever the file's kind."""

from __future__ import annotations

import contextlib
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
from jobctl.prep.sources.batches import BLOCK, Batch, Fields, Piece, Report, Seen
from jobctl.prep.sources.files import CheckedFile, damaged, decompressed
from jobctl.prep.sources.kinds import compression, kind
from jobctl.prep.sources.lines import from_lines
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.parquet import from_parquet
from jobctl.prep.sources.plain_text import from_text


def field_names(sources: Sequence[Source]) -> list[str]:
    """Return the fields of the first record of the first file that has one, nested ones dotted."""
    for source in sources:
        with contextlib.suppress(UserError, OSError, ValueError):
            if kind(source.name) == "parquet":
                return parquet.column_names(source.path)

            if kind(source.name) == "lines":
                with CheckedFile(source.path) as file:
                    stream = decompressed(cast(BinaryIO, file), compression(source.name))
                    return nested_names(json.loads(stream.read(BLOCK).split(b"\n")[0]))

    return []


def nested_names(value: object, prefix: str = "") -> list[str]:
    """Return the dotted names of all fields in a JSON value."""
    names: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            names += [prefix + name, *nested_names(inner, f"{prefix}{name}.")]

    return names


def hold(piece: Piece, expected: SourceFile, file: CheckedFile) -> None:
    """Raise UserError where the bytes read are not the manifest's; for pieces of a file, with the last."""
    if piece.stop and piece.stop < expected.size:
        return

    if piece.stop:
        file.seek(0)

    while file.read(BLOCK):
        pass

    if file.sha256 != expected.sha256:
        raise UserError(
            f"source {piece.source.path} has other bytes than the manifest says",
            hint="put it back (in a mirror: python -m jobctl.prep.mirror --check), or choose a new --output",
        )


def read(
    piece: Piece, entry: DatasetEntry, expected: SourceFile, report: Report, seen: Seen
) -> Iterator[Batch]:
    """Every document of a piece, in the file's order; at the end the bytes read are held to the manifest.

    ``seen`` is told the bytes read. Raises UserError where the file is damaged, cannot be read, or was
    changed.
    """
    source = piece.source
    fields = Fields(entry)
    try:
        if kind(source.name) == "parquet":
            with io.BufferedReader(CheckedFile(source.path), BLOCK) as rows:
                yield from from_parquet(source, cast(BinaryIO, rows), fields, report)

            with CheckedFile(source.path, seen) as file:
                hold(piece, expected, file)

            return

        with CheckedFile(source.path, seen) as file:
            if piece.start:
                file.seek(piece.start - 1)

            stream = decompressed(cast(BinaryIO, file), compression(source.name))
            if kind(source.name) == "lines":
                yield from from_lines(piece, stream, fields, report)
            else:
                yield from from_text(source.name, stream, entry.separator, report)

            hold(piece, expected, file)
    except (zstandard.ZstdError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, ValueError) as error:
        raise damaged(source.path, error) from None
    except OSError as error:
        raise UserError(
            f"source {source.path} cannot be read: {error.strerror or error}",
            hint="what is done stays: mend it, and run the same command again",
            code=1,
        ) from None

"""Documents out of one source file, in batches of a few megabytes, whatever the file's kind."""

from __future__ import annotations

import functools
import gzip
import io
import json
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import numpy as np
import zstandard

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources.files import CheckedFile, damaged, decompressed
from jobctl.prep.sources.origins import Source, compression, kind

BLOCK = 4 << 20
"""Bytes of text read at once, about."""
LONGEST = 48 << 20
"""Bytes of the longest line or document that is taken: the bound on memory. Longer ones are rejected."""


class Batch(NamedTuple):
    """Texts; and the label and the language of each, or empty lists where the catalogue names no field."""

    texts: list[str]
    labels: list[str]
    languages: list[str]


class Broken(NamedTuple):
    """A line that is not a document: why, and where (line from 1, byte offset once decompressed)."""

    file: str
    line: int
    offset: int
    reason: str
    sample: str


class Piece(NamedTuple):
    """Bytes [start, stop) of a source; ``stop`` 0 is the whole file. A line belongs to where it starts."""

    source: Source
    start: int = 0
    stop: int = 0


Report = Callable[[Broken], None]
Seen = Callable[[int], None]


class Block(NamedTuple):
    """Whole lines, with the line number and the offset of the first."""

    data: memoryview
    line: int
    offset: int


def whole_text(data: bytes) -> str:
    """UTF-8 text; what is not UTF-8 becomes U+FFFD, as with ``open(errors="replace")``."""
    return data.decode("utf-8", errors="replace")


def newlines(data: memoryview) -> int:
    """How many there are; bytes.count takes three times as long."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))


def blocks(stream: BinaryIO, file: str, report: Report, start: int = 0, stop: int = 0) -> Iterator[Block]:
    """Whole lines of a stream, several megabytes at a time; one longer than LONGEST is reported and left out.

    With ``stop``, the stream begins at byte ``start - 1`` (or 0), and the lines are those that begin in
    [start, stop).
    """
    rest, line, offset = b"", 1, max(start - 1, 0)
    skipping = start > 0
    while chunk := stream.read(BLOCK):
        if skipping:
            begin = chunk.find(b"\n") + 1
            offset += begin or len(chunk)
            if not begin:
                continue
            skipping, chunk = False, chunk[begin:]
        if stop and offset >= stop:
            return
        whole = rest + chunk
        end = whole.rfind(b"\n", len(rest)) + 1
        lines, rest = memoryview(whole)[:end], whole[end:]
        if end:
            if stop and offset + end >= stop:
                yield Block(lines[: whole.find(b"\n", stop - 1 - offset) + 1], line, offset)
                return
            yield Block(lines, line, offset)
            line += newlines(lines)
            offset += end
        if len(rest) > LONGEST:
            report(Broken(file, line, offset, f"longer than {LONGEST} bytes", whole_text(rest[:80])))
            offset, line = offset + len(rest), line + 1
            rest, skipping = b"", True
    if rest and not (stop and offset >= stop):
        yield Block(memoryview(rest), line, offset)


class Fields:
    """Which fields of a record hold what: the text at its top, label and language also further in."""

    def __init__(self, entry: DatasetEntry) -> None:
        self.text = entry.text_field
        self.label = entry.source_field.split(".") if entry.source_field else []
        self.language = entry.language_field.split(".") if entry.language_field else []
        self.roots = sorted({path[0] for path in (self.label, self.language) if path})
        definitions: list[Any] = [("text", str), *((f"root{i}", Any, None) for i in range(len(self.roots)))]
        names = {"text": self.text, **{f"root{i}": name for i, name in enumerate(self.roots)}}
        self.record = msgspec.defstruct("Record", definitions, rename=names, gc=False)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.record)

    def _followed(self, records: list[Any], path: list[str]) -> list[str]:
        if not path:
            return []
        root = f"root{self.roots.index(path[0])}"
        found = []
        for record in records:
            value = getattr(record, root)
            for step in path[1:]:
                value = value.get(step) if isinstance(value, dict) else None
            found.append("" if value is None else str(value))
        return found

    def batch(self, records: list[Any]) -> Batch:
        texts = [record.text for record in records]
        return Batch(texts, self._followed(records, self.label), self._followed(records, self.language))


def repaired(line: bytes, fields: Fields) -> Any:
    """The record of a line that is JSON once lone surrogates and what is not UTF-8 become U+FFFD.

    Raises ValueError, saying why, for a line that is not.
    """
    text = json.dumps(json.loads(whole_text(line)), ensure_ascii=False)
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        return fields.decoder.decode(clean)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def parsed(block: Block, fields: Fields, file: str, report: Report) -> list[Any]:
    """Records of a block's lines; broken lines are reported and left out, blank ones only left out."""
    try:
        return fields.decoder.decode_lines(block.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # one of the lines: find out which
    records: list[Any] = []
    offset = block.offset
    for number, line in enumerate(bytes(block.data).split(b"\n"), block.line):
        try:
            if line.strip():
                records += fields.decoder.decode_lines(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                records.append(repaired(line, fields))
            except (ValueError, RecursionError) as error:
                report(Broken(file, number, offset, str(error), whole_text(line[:80])))
        offset += len(line) + 1
    return records


def from_lines(piece: Piece, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """One JSON object a line; a byte order mark before the first is none of it."""
    report = numbered(piece, report)
    for block in blocks(stream, piece.source.name, report, piece.start, piece.stop):
        if block.offset == 0 and bytes(block.data[: len(BOM_UTF8)]) == BOM_UTF8:
            block = block._replace(data=block.data[len(BOM_UTF8) :], offset=len(BOM_UTF8))
        yield fields.batch(parsed(block, fields, piece.source.name, report))


def numbered(piece: Piece, report: Report) -> Report:
    """``report``, told the number of a line in the whole file instead of in the piece."""
    if not piece.start:
        return report

    @functools.cache
    def before() -> int:
        """Lines that begin before the piece's first; they are only counted where one is broken."""
        with open(piece.source.path, "rb") as file:
            sizes = [BLOCK] * ((piece.start - 1) // BLOCK) + [(piece.start - 1) % BLOCK]
            return 1 + sum(newlines(memoryview(file.read(size))) for size in sizes)

    return lambda broken: report(broken._replace(line=broken.line + before()))


def from_text(name: str, stream: BinaryIO, separator: str, report: Report) -> Iterator[Batch]:
    """Plain text: the file is one document, or its parts between lines that are the separator.

    A part does not have its last line's end; parts without text are none.
    """
    mark = re.compile(rb"^" + re.escape(separator.encode()) + rb"\r?(?:\n|\Z)", re.MULTILINE)
    rest, offset, parts = b"", 0, 0
    skipping = False
    while chunk := stream.read(BLOCK):
        rest += chunk
        if separator:
            documents, begin = list[bytes](), 0
            for match in mark.finditer(rest, 0, rest.rfind(b"\n") + 1):
                documents.append(rest[begin : match.start()])
                begin = match.end()
            offset, rest, parts = offset + begin, rest[begin:], parts + len(documents)
            if documents and skipping:
                documents, skipping = documents[1:], False
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
            offset, rest = offset + len(rest) - len(kept), kept
    if skipping:
        return
    yield separated(mark.split(rest)) if separator else Batch([whole_text(rest)], [], [])


def separated(documents: list[bytes]) -> Batch:
    texts = (document.removesuffix(b"\n").removesuffix(b"\r") for document in documents)
    return Batch([whole_text(text) for text in texts if text], [], [])


def rows_at_once(file: Any) -> int:
    """Rows of a parquet file that are about BLOCK bytes of text."""
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(4096, int(BLOCK / max(largest, 1.0))))


def from_parquet(source: Source, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Rows of a parquet file, in its order; a null text is reported as broken (its "line" is the row)."""
    import pyarrow.parquet  # type: ignore[import-untyped]

    row = 0
    with pyarrow.parquet.ParquetFile(stream, memory_map=False, buffer_size=BLOCK) as file:
        wanted = [fields.text, *fields.roots]
        columns = [name for name in wanted if name in file.schema_arrow.names]
        if fields.text not in columns:
            raise UserError(
                f"source {source.path} has no column '{fields.text}'",
                hint="name the text's with --text-field",
            )
        for table in file.iter_batches(batch_size=rows_at_once(file), columns=columns, use_threads=False):
            data = [
                table.column(name).to_pylist() if name in columns else [None] * len(table) for name in wanted
            ]
            records = []
            for text, *roots in zip(*data, strict=True):
                row += 1
                if not isinstance(text, str):
                    problem = f"{fields.text} is {type(text).__name__}, not text"
                    report(Broken(source.name, row, 0, problem, ""))
                elif len(text) > LONGEST:
                    report(Broken(source.name, row, 0, f"longer than {LONGEST} characters", text[:80]))
                else:
                    records.append(fields.record(text, *roots))
            yield fields.batch(records)


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
    source, fields = piece.source, Fields(entry)
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
    except (zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError, ValueError) as error:
        raise damaged(source.path, error) from None
    except OSError as error:
        raise UserError(
            f"source {source.path} cannot be read: {error.strerror or error}",
            hint="what is done stays: mend it, and run the same command again",
            code=1,
        ) from None

"""Parquet files: a row is a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jobctl.jobs.core.errors import UserError, nearest
from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Report, whole_text
from jobctl.prep.sources.listing import Source

MOST_ROWS = 4096
"""Rows that are read at once at most."""


def rows_at_once(file: Any) -> int:
    """Return how many rows are about BLOCK bytes of text.

    A dictionary hides how long the texts are; ``from_parquet`` reads such a column as a dictionary.
    """
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(MOST_ROWS, int(BLOCK / max(largest, 1.0))))


def has_dictionary(file: Any, column: str) -> bool:
    """Return whether some row group has a dictionary of the column's values."""
    for group_index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(group_index)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema == column and any("DICTIONARY" in name for name in chunk.encodings):
                return True

    return False


def check_columns(source: Source, names: list[str], fields: Fields) -> list[str]:
    """Return the columns to read. Raises UserError where the text's is absent, or a name stands for two."""
    if fields.text not in names:
        raise UserError(
            f"source {source.path} has no column '{fields.text}'",
            hint=f"name the text's column with --text-field; {nearest(fields.text, names)}",
        )

    columns = [name for name in [fields.text, *fields.roots] if name in names]
    for name in columns:
        if names.count(name) > 1:
            raise UserError(
                f"source {source.path} has {names.count(name)} columns that are called '{name}'",
                hint="write the file again with one of them",
            )

    return columns


def texts_of(column: Any) -> list[str | None]:
    """Return the texts of a column; what is not UTF-8 becomes U+FFFD. Raises TypeError for other types."""
    import pyarrow  # type: ignore[import-untyped]

    if pyarrow.types.is_dictionary(column.type):
        # Each value is decoded once, and the rows share it.
        values = texts_of(column.dictionary)
        return [None if index is None else values[index] for index in column.indices.to_pylist()]

    if pyarrow.types.is_string(column.type):
        column = column.cast(pyarrow.binary())
    elif pyarrow.types.is_large_string(column.type):
        column = column.cast(pyarrow.large_binary())
    elif not (pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type)):
        raise TypeError(str(column.type))

    return [None if value is None else whole_text(value) for value in column.to_pylist()]


def rows_of(table: Any, columns: list[str], fields: Fields) -> Iterator[Any]:
    """Yield the records of a record batch."""
    texts = texts_of(table.column(fields.text))
    roots = [
        table.column(name).to_pylist() if name in columns else [None] * len(table) for name in fields.roots
    ]
    for text, *values in zip(texts, *roots, strict=True):
        yield fields.record(text, *values)


def from_parquet(source: Source, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read the rows of a parquet file, in its order. A row without a text is an empty document."""
    import pyarrow.parquet  # type: ignore[import-untyped]

    with pyarrow.parquet.ParquetFile(stream, memory_map=False) as file:
        columns = check_columns(source, list(file.schema_arrow.names), fields)
        dictionary = [fields.text] if has_dictionary(file, fields.text) else []

    stream.seek(0)
    row = 0
    records: list[Any] = []
    size = 0

    with pyarrow.parquet.ParquetFile(
        stream, memory_map=False, buffer_size=BLOCK, read_dictionary=dictionary
    ) as file:
        for table in file.iter_batches(batch_size=rows_at_once(file), columns=columns, use_threads=False):
            try:
                rows = list(rows_of(table, columns, fields))
            except TypeError as error:
                raise UserError(
                    f"source {source.path}: column '{fields.text}' is {error}, not text",
                    hint="name the text's column with --text-field",
                ) from None

            for record in rows:
                row += 1
                length = len(record.text or "")
                if length > LONGEST:
                    reason = f"longer than {LONGEST} characters"
                    report(Broken(source.name, row, 0, reason, record.text[:80]))
                    continue

                records.append(record)
                size += length
                if size >= BLOCK:
                    yield fields.batch(records)
                    records = []
                    size = 0

    yield fields.batch(records)


def column_names(path: Path) -> list[str]:
    """Return the columns of a file, nested ones dotted."""
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    names: list[str] = []

    for field in schema:
        names.append(field.name)
        if pyarrow.types.is_struct(field.type):
            names += [f"{field.name}.{field.type.field(i).name}" for i in range(field.type.num_fields)]

    return names

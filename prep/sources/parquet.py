"""Read parquet files. Each row is a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jobctl.jobs.core.errors import UserError, nearest
from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Report, whole_text
from jobctl.prep.sources.listing import Source

MOST_ROWS = 4096
"""The most rows of one read."""


def rows_at_once(file: Any) -> int:
    """Return the number of rows with about BLOCK bytes of text.

    A dictionary hides the length of its texts. ``from_parquet`` reads such a column as a dictionary.
    """
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(MOST_ROWS, int(BLOCK / max(largest, 1.0))))


def has_dictionary(file: Any, column: str) -> bool:
    """Return True if some row group has a dictionary of the column's values."""
    for group_index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(group_index)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema == column and any("DICTIONARY" in name for name in chunk.encodings):
                return True

    return False


def no_column(source: Source, fields: Fields, names: Sequence[str]) -> UserError:
    """Return the error for a table without the text's column."""
    return UserError(
        f"source {source.path} has no column '{fields.text}'",
        hint=f"name the text's column with --text-field; {nearest(fields.text, names)}",
    )


def check_columns(source: Source, names: list[str], fields: Fields) -> list[str]:
    """Return the columns to read.

    Raises UserError if the text's column is absent, or if two columns share a name.
    """
    # A name with dots may be a column itself, or the way into a nested one.
    text = fields.text if fields.text in names else fields.text_path[0]
    if text not in names:
        raise no_column(source, fields, names)

    columns = [name for name in dict.fromkeys([text, *fields.roots]) if name in names]
    for name in columns:
        if names.count(name) > 1:
            raise UserError(
                f"source {source.path} has {names.count(name)} columns that are called '{name}'",
                hint="write the file again with one of them",
            )

    return columns


def texts_of(column: Any) -> list[str | None]:
    """Return the texts of a column.

    Bytes that are not UTF-8 become U+FFFD. Raises TypeError for other types.
    """
    import pyarrow  # type: ignore[import-untyped]

    if pyarrow.types.is_dictionary(column.type):
        # Each value is decoded once, and the rows share it.
        values = texts_of(column.dictionary)
        return [None if index is None else values[index] for index in column.indices.to_pylist()]

    if pyarrow.types.is_string(column.type):
        # If it were read as text, a single wrong byte would make pyarrow refuse the whole column.
        column = column.cast(pyarrow.binary())
    elif pyarrow.types.is_large_string(column.type):
        column = column.cast(pyarrow.large_binary())
    elif not (pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type)):
        raise TypeError(str(column.type))

    return [None if value is None else whole_text(value) for value in column.to_pylist()]


class Rows:
    """Turn the rows of a table's parts into batches. Report and leave out a row that is too long."""

    def __init__(self, source: Source, fields: Fields, columns: list[str], report: Report) -> None:
        self._source = source
        self._fields = fields
        self._columns = columns
        self._report = report
        self._row = 0
        self._records: list[Any] = []
        self._size = 0

    def _text_column(self, table: Any) -> Any:
        """Return the column of texts. Raises UserError if the nested field does not exist."""
        import pyarrow.compute  # type: ignore[import-untyped]

        fields = self._fields
        if fields.text in table.schema.names:
            return table.column(fields.text)

        column = table.column(fields.text_path[0])
        for step in fields.text_path[1:]:
            if not pyarrow.types.is_struct(column.type) or column.type.get_field_index(step) < 0:
                raise no_column(self._source, fields, names_of(table.schema))

            column = pyarrow.compute.struct_field(column, step)

        return column

    def _rows(self, table: Any) -> Iterator[Any]:
        """Yield the records of a record batch. Raises UserError if the column holds no texts."""
        try:
            texts = texts_of(self._text_column(table))
        except TypeError as error:
            raise UserError(
                f"source {self._source.path}: column '{self._fields.text}' is {error}, not text",
                hint="name the text's column with --text-field",
            ) from None

        roots = [
            table.column(name).to_pylist() if name in self._columns else [None] * len(table)
            for name in self._fields.roots
        ]
        for text, *values in zip(texts, *roots, strict=True):
            yield self._fields.record(text, *values)

    def batches(self, table: Any) -> Iterator[Batch]:
        """Add the rows of a record batch, and yield each batch that is full."""
        for record in self._rows(table):
            self._row += 1
            length = len(record.text or "")
            if length > LONGEST:
                reason = f"longer than {LONGEST} characters"
                self._report(Broken(self._source.name, self._row, 0, reason, record.text[:80]))
                continue

            self._records.append(record)
            self._size += length
            if self._size >= BLOCK:
                yield self.rest()

    def rest(self) -> Batch:
        """Return the remaining documents as a batch."""
        batch = self._fields.batch(self._records)
        self._records = []
        self._size = 0
        return batch


def from_parquet(source: Source, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read the rows of a parquet file in their order. A row without a text is an empty document."""
    import pyarrow.parquet  # type: ignore[import-untyped]

    # The file is opened twice. The first time shows if the column has a dictionary; the second time needs it.
    with pyarrow.parquet.ParquetFile(stream, memory_map=False) as file:
        columns = check_columns(source, list(file.schema_arrow.names), fields)
        dictionary = [fields.text] if has_dictionary(file, fields.text) else []

    stream.seek(0)
    rows = Rows(source, fields, columns, report)

    with pyarrow.parquet.ParquetFile(
        stream, memory_map=False, buffer_size=BLOCK, read_dictionary=dictionary
    ) as file:
        # Each worker is a process with one core, so threads would only compete.
        for table in file.iter_batches(batch_size=rows_at_once(file), columns=columns, use_threads=False):
            yield from rows.batches(table)

    yield rows.rest()


def column_names(path: Path) -> list[str]:
    """Return the columns of a file. Names of nested columns have dots."""
    import pyarrow.parquet

    return names_of(pyarrow.parquet.read_schema(path))


def names_of(schema: Any) -> list[str]:
    """Return the columns of a schema, and the fields inside them with dots in their names."""
    import pyarrow

    names: list[str] = []
    for field in schema:
        names.append(field.name)
        if pyarrow.types.is_struct(field.type):
            names += [f"{field.name}.{field.type.field(i).name}" for i in range(field.type.num_fields)]

    return names

"""Read Arrow files: the IPC file, and the IPC stream that ``datasets`` keeps.

Feather's second version is an IPC file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.batches import BLOCK, Batch, Fields, Report
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.parquet import Rows, check_columns

FILE_MAGIC = b"ARROW1"
FEATHER_1 = b"FEA1"


def record_batches(stream: BinaryIO, source: Source) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a file, and its record batches in their order.

    Only one record batch is in memory at a time. Raises UserError for the first version of Feather.
    """
    import pyarrow.ipc  # type: ignore[import-untyped]

    magic = stream.read(len(FILE_MAGIC))
    stream.seek(0)
    if magic.startswith(FEATHER_1):
        raise UserError(
            f"source {source.path} is of Feather's first version, which prep does not read",
            hint="write it again with pyarrow.feather.write_feather, or as parquet",
        )

    if magic == FILE_MAGIC:
        file = pyarrow.ipc.open_file(stream)
        return file.schema, (file.get_batch(index) for index in range(file.num_record_batches))

    reader = pyarrow.ipc.open_stream(stream)
    return reader.schema, iter(reader)


def from_arrow(source: Source, stream: BinaryIO, fields: Fields, report: Report) -> Iterator[Batch]:
    """Read the rows of an Arrow file in their order. A row without a text is an empty document."""
    schema, batches = record_batches(stream, source)
    columns = check_columns(source, list(schema.names), fields)
    rows = Rows(source, fields, columns, report)

    for batch in batches:
        table = batch.select(columns)

        # A record batch may be large, so only a few megabytes of its rows become Python objects at a time.
        row_bytes = max(table.nbytes / max(len(table), 1), 1.0)
        count = max(1, int(BLOCK / row_bytes))

        for begin in range(0, len(table), count):
            yield from rows.batches(table.slice(begin, count))

    yield rows.rest()

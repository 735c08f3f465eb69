"""Parquet files: a row is a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.batches import BLOCK, LONGEST, Batch, Broken, Fields, Report
from jobctl.prep.sources.origins import Source


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

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import arrow
from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.documents import field_names, read
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of


def written(
    path: Path, table: pyarrow.Table, form: str, rows: int = 50, compression: str | None = None
) -> Path:
    """Write a table as ``datasets`` (stream), pyarrow (file) or pandas (feather) do."""
    if form == "feather":
        pyarrow.feather.write_feather(table, path, compression=compression or "uncompressed", chunksize=rows)
        return path

    make = pyarrow.ipc.new_stream if form == "stream" else pyarrow.ipc.new_file
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    with make(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)

    return path


@pytest.mark.parametrize("form", ["stream", "file", "feather"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_every_form_gives_its_rows_in_order(tmp_path: Path, form: str, compression: str | None) -> None:
    table = pyarrow.table({"id": range(len(TEXTS)), "text": TEXTS})
    assert texts_of(written(tmp_path / "a.arrow", table, form, compression=compression)) == (TEXTS, [])


def test_a_large_record_batch_becomes_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "BLOCK", 4096)
    monkeypatch.setattr("jobctl.prep.sources.parquet.BLOCK", 4096)
    texts = ["x" * 1000] * 100
    path = written(tmp_path / "a.arrow", pyarrow.table({"text": texts}), "stream", rows=100)
    batches = list(read(Piece(Source(path.name, path)), ENTRY, described(path), print, lambda size: None))
    assert [text for batch in batches for text in batch.texts] == texts
    assert max(len(batch.texts) for batch in batches) <= 5


def test_nested_fields_are_followed_and_nulls_are_empty(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, text_field="meta.text", source_field="meta.set")
    meta = [{"text": "one", "set": "a"}, None, {"text": None, "set": "b"}]
    path = written(tmp_path / "a.arrow", pyarrow.table({"meta": meta}), "file")
    [batch] = read(Piece(Source(path.name, path)), entry, described(path), print, lambda size: None)
    assert (batch.texts, batch.labels) == (["one", "", ""], ["a", "", "b"])
    assert field_names([Source(path.name, path)]) == ["meta", "meta.text", "meta.set"]


@pytest.mark.parametrize("field", ["meta.txt", "meta.text.more", "body"])
def test_a_column_that_is_absent_is_named_with_those_that_are_there(tmp_path: Path, field: str) -> None:
    entry = msgspec.structs.replace(ENTRY, text_field=field)
    path = written(tmp_path / "a.arrow", pyarrow.table({"meta": [{"text": "x"}]}), "stream")
    with pytest.raises(UserError, match=rf"a\.arrow has no column '{field}'\n.*meta"):
        texts_of(path, entry)


def test_a_row_beyond_the_limit_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.prep.sources.parquet.LONGEST", 10)
    path = written(tmp_path / "a.arrow", pyarrow.table({"text": ["one", "x" * 11, "two"]}), "stream")
    texts, [broken] = texts_of(path)
    assert texts == ["one", "two"]
    assert (broken.line, broken.reason) == (2, "longer than 10 characters")


def test_a_file_that_is_cut_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path / "a.arrow", pyarrow.table({"text": TEXTS}), "stream")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"a\.arrow is damaged"):
        texts_of(path)


def test_the_first_version_of_feather_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.feather"
    path.write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(UserError, match="is of Feather's first version"):
        texts_of(path)

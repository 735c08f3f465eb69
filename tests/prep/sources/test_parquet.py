from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jobctl.prep.sources import parquet
from jobctl.prep.sources.batches import BLOCK, Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.origins import Source
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of


def test_parquet_gives_the_same_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"id": range(len(TEXTS)), "text": TEXTS}), path, row_group_size=50
    )
    assert texts_of(path) == (TEXTS, [])


def test_a_null_row_of_parquet_is_reported_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "b"]}), path)
    texts, broken = texts_of(path)
    assert texts == ["a", "b"]
    assert [item.line for item in broken] == [2]


def test_a_parquet_file_is_read_a_few_megabytes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    texts = [str(number) * 100_000 for number in range(200)]
    pyarrow.parquet.write_table(
        pyarrow.table({"text": texts}), path, row_group_size=100, use_dictionary=False
    )
    piece = Piece(Source(path.name, path))
    found = list(read(piece, ENTRY, described(path), lambda broken: None, lambda size: None))
    assert [text for batch in found for text in batch.texts] == texts
    assert max(sum(map(len, batch.texts)) for batch in found) <= 2 * BLOCK


def test_a_parquet_row_beyond_the_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "LONGEST", 1000)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b" * 2000, "c"]}), path)
    texts, broken = texts_of(path)
    assert texts == ["a", "c"]
    assert [(item.line, item.reason) for item in broken] == [(2, "longer than 1000 characters")]

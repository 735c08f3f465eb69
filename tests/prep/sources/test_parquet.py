from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import parquet
from jobctl.prep.sources.batches import BLOCK, Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of


def test_parquet_gives_the_same_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"id": range(len(TEXTS)), "text": TEXTS}), path, row_group_size=50
    )
    assert texts_of(path) == (TEXTS, [])


def test_a_row_without_a_text_is_an_empty_document(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "b"]}), path)
    assert texts_of(path) == (["a", "", "b"], [])


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


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "large_binary"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_text_in_bytes_is_read_and_what_is_not_utf8_is_replaced(
    tmp_path: Path, kind: str, dictionary: bool
) -> None:
    raw = [b"caf\xe9", "國".encode(), None, b"plain", b"caf\xe9"]
    binary = pyarrow.large_binary() if kind.startswith("large") else pyarrow.binary()
    column = pyarrow.array(raw, binary)
    if kind.endswith("string"):
        text_type = pyarrow.large_string() if kind.startswith("large") else pyarrow.string()
        column = pyarrow.Array.from_buffers(text_type, len(raw), column.buffers())
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path, use_dictionary=dictionary)
    assert texts_of(path) == (["caf\ufffd", "國", "", "plain", "caf\ufffd"], [])


def test_a_dictionary_of_large_texts_takes_no_more_memory_than_its_values(tmp_path: Path) -> None:
    """The file is a few kilobytes, and its rows are half a gigabyte of text."""
    path = tmp_path / "a.parquet"
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 4096), pyarrow.array(["x" * 131_072]))
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)
    before = pyarrow.total_allocated_bytes()
    piece = Piece(Source(path.name, path))
    rows = 0
    for batch in read(piece, ENTRY, described(path), lambda broken: None, lambda size: None):
        rows += len(batch.texts)
        assert sum(map(len, batch.texts)) <= 2 * BLOCK
        assert pyarrow.total_allocated_bytes() - before < 64 << 20
    assert rows == 4096


def test_two_columns_of_one_name_are_an_error_in_words_where_they_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    column = pyarrow.array(["a"])
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([column, column], ["text", "text"]), path)
    with pytest.raises(UserError, match="has 2 columns that are called 'text'"):
        texts_of(path)
    names = ["text", "unused", "unused"]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([column, column, column], names), path)
    assert texts_of(path) == (["a"], [])


def test_a_wrong_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"texts": ["a"], "id": [1]}), path)
    with pytest.raises(UserError, match=r"no column 'text'\n.*did you mean 'texts'"):
        texts_of(path)
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), path)
    with pytest.raises(UserError, match="column 'text' is int64, not text"):
        texts_of(path)

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources import plain_text
from tests.prep.sources.reading import TEXTS, texts_of, write


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    text = "\n".join(TEXTS)
    assert texts_of(write(tmp_path / name, text.encode())) == ([text], [])


def test_a_separator_line_ends_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "BLOCK", 7)  # so that separators lie across blocks
    path = write(tmp_path / "a.txt", b"one\nline\n<|end|>\ntwo <|end|> not\n<|end|>\nthree\n<|end|>\n")
    entry = DatasetEntry(summary="", license="", separator="<|end|>")
    assert texts_of(path, entry) == (["one\nline", "two <|end|> not", "three"], [])


@pytest.mark.parametrize(
    "data",
    [
        b"<|end|>\none\n<|end|>\n<|end|>\ntwo",
        b"one\r\n<|end|>\r\ntwo\r\n<|end|>",
        b"\n<|end|>\none\n<|end|>\ntwo\n",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_separators_may_be_first_or_several_and_lines_may_end_as_they_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, size: int
) -> None:
    monkeypatch.setattr(plain_text, "BLOCK", size)
    entry = DatasetEntry(summary="", license="", separator="<|end|>")
    assert texts_of(write(tmp_path / "a.txt", data), entry) == (["one", "two"], [])


@pytest.mark.parametrize("separator", ["", "---"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, separator: str) -> None:
    entry = DatasetEntry(summary="", license="", separator=separator)
    assert texts_of(write(tmp_path / "a.txt", "\ufeffone\ufeff two".encode()), entry) == (
        ["one\ufeff two"],
        [],
    )

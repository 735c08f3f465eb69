from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import lines
from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of, write

HARD = ['say "no"', "a,b", "a\nb\n\nc", "a\r\nb", "\t", " x "]


def table(texts: list[str], delimiter: str = ",", **more: str) -> bytes:
    """Write rows as other programs do: quoted where it is needed, a line break at the end of each."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(["id", "text", *more])
    writer.writerows([[number, text, *more.values()] for number, text in enumerate(texts)])
    return file.getvalue().encode()


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv.gz", ","), ("a.TSV.zst", "\t")])
def test_rows_are_documents(tmp_path: Path, name: str, delimiter: str) -> None:
    texts = [*TEXTS, *HARD]
    assert texts_of(write(tmp_path / name, table(texts, delimiter))) == (texts, [])


def test_a_byte_order_mark_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbftext,id\ncaf\xe9,1\n")
    assert texts_of(path) == (["caf\ufffd"], [])


def test_another_column_is_the_source(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, source_field="set")
    path = write(tmp_path / "a.csv", table(["one", "two"], set="books"))
    [batch] = read(Piece(Source(path.name, path)), entry, described(path), print, lambda size: None)
    assert (batch.texts, batch.labels) == (["one", "two"], ["books", "books"])


def test_rows_of_another_length_are_rejected_with_their_place(tmp_path: Path) -> None:
    data = b'id,text\n1,one\n2\n3,"a\nb"\n4,x,y\n\n5,two\n'
    texts, broken = texts_of(write(tmp_path / "a.csv", data))
    assert texts == ["one", "a\nb", "two"]
    assert [(item.line, data[item.offset :].split(b"\n")[0]) for item in broken] == [(3, b"2"), (6, b"4,x,y")]
    assert broken[0].reason == "it has 1 values, the first row names 2 columns"


def test_a_quote_that_is_wrong_costs_one_row(tmp_path: Path) -> None:
    texts, [broken] = texts_of(write(tmp_path / "a.csv", b'id,text\n1,"one"x\n2,two\n'))
    assert texts == ["two"]
    assert broken.line == 2


def test_a_line_beyond_the_limit_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 64)
    monkeypatch.setattr(lines, "LONGEST", 200)
    texts, [broken] = texts_of(write(tmp_path / "a.csv", table(["one", "x" * 1000, "two"])))
    assert texts == ["one", "two"]
    assert broken.reason == "longer than 200 bytes"


def test_a_file_without_the_column_names_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.csv has no column 'text'\n.*known: body, id"):
        texts_of(write(tmp_path / "a.csv", b"id,body\n1,x\n"))


def test_an_empty_file_has_no_document(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path / "a.csv", b"")) == ([], [])

from __future__ import annotations

import errno
import itertools
import json
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.prep.sources import files
from jobctl.prep.sources import lines as json_lines
from jobctl.prep.sources.batches import Broken, Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.files import CheckedFile
from jobctl.prep.sources.lines import numbered
from jobctl.prep.sources.listing import Source
from tests.prep.conftest import lines
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of, write


@pytest.mark.parametrize(
    "name",
    [
        "a.jsonl",
        "a.jsonl.zst",
        "a.jsonl.zstd",
        "a.json.gz",
        "a.jsonl.xz",
        "a.jsonl.bz2",
        "a.jsonl.lz4",
        "a.json",
    ],
)
def test_every_kind_of_lines_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    assert texts_of(write(tmp_path / name, lines(TEXTS, id=1, meta={"set": "x"}))) == (TEXTS, [])


def test_a_byte_order_mark_is_none_of_the_first_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "one"}\nbroken\n')
    texts, broken = texts_of(path)
    assert texts == ["one"]
    assert [(item.line, item.offset) for item in broken] == [(2, 19)]


def test_broken_lines_of_a_piece_have_their_number_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK", 5)
    lines = [b'{"text": "x"}' if number % 3 else b"broken %d" % number for number in range(1, 40)]
    path = write(tmp_path / "a.jsonl", b"\n".join(lines) + b"\n")
    size = path.stat().st_size
    pieces = [Piece(Source(path.name, path), start, min(start + 60, size)) for start in range(0, size, 60)]
    found = [broken for piece in pieces for broken in texts_of(path, piece=piece)[1]]
    assert [(item.line, item.sample) for item in found] == [(n, f"broken {n}") for n in range(3, 40, 3)]


def test_broken_lines_are_reported_with_their_place_and_the_others_kept(tmp_path: Path) -> None:
    good = [b'{"text": "one"}', b'{"text": "two"}', b"", b'{"text": "three"}']
    bad = [b'{"text": "cut', b'{"txt": "no field"}', b'{"text": 5}', b"not json", b"[1]"]
    mixed = [good[0], bad[0], good[1], bad[1], good[2], *bad[2:], good[3]]
    path = write(tmp_path / "a.jsonl", b"\n".join(mixed))
    texts, broken = texts_of(path)
    assert texts == ["one", "two", "three"]
    data = path.read_bytes()
    assert [data[item.offset :].split(b"\n")[0] for item in broken] == bad
    assert [item.line for item in broken] == [2, 4, 6, 7, 8]
    assert all(item.reason and item.file == "a.jsonl" for item in broken)


def test_lone_surrogates_become_replacement_characters_and_pairs_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rb'{"text": "a\ud800b \ud83d\ude42"}' + b"\n" + b'{"text": "c"}\n')
    assert texts_of(path) == (["a\ufffdb 🙂", "c"], [])


@given(st.lists(st.text(max_size=40), max_size=30), st.lists(st.integers(1, 2000), max_size=6), st.booleans())
def test_byte_ranges_share_out_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], edges: list[int], newline: bool
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    data = b"".join(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts)
    path.write_bytes(data if newline else data.removesuffix(b"\n"))
    size = path.stat().st_size
    inner = sorted({edge for edge in edges if 0 < edge < size})
    bounds = [0, *inner, size]
    found: list[str] = []
    for start, stop in itertools.pairwise(bounds):
        if stop > start:
            found += texts_of(path, piece=Piece(Source(path.name, path), start, stop))[0]
    assert found == texts


def reason_of(tmp_path: Path, line: bytes) -> str:
    """Return why a line between two good ones is rejected."""
    path = write(tmp_path / "a.jsonl", b'{"text": "one"}\n' + line + b'\n{"text": "two"}\n')
    texts, [broken] = texts_of(path)
    assert texts == ["one", "two"]
    assert broken.line == 2
    return broken.reason


@pytest.mark.parametrize("depth", [1100, 100_000])
def test_a_record_that_is_nested_too_deeply_is_rejected(tmp_path: Path, depth: int) -> None:
    line = b'{"text": "deep", "unused": ' + b"[" * depth + b"]" * depth + b"}"
    assert reason_of(tmp_path, line) == "it is nested too deeply"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"txt": "x", "id": 1}', "it has no field 'text'; its fields: txt, id"),
        (b'{"text": ["x"]}', "its field 'text' is an array, not text"),
        (b'["x"]', "it is an array, not a JSON object"),
        (b'{"text": "a"} {"text": "b"}', "it has more than one JSON value: the second is at 15"),
        (b'{"text": "a"}{"text": "b"}', "it has more than one JSON value: the second is at 14"),
        (b"{text: 1}", "it is not JSON: Expecting property name enclosed in double quotes at 2"),
    ],
)
def test_the_reason_says_in_words_why_a_line_is_no_document(tmp_path: Path, line: bytes, reason: str) -> None:
    assert reason_of(tmp_path, line) == reason


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_json_does_not_have_costs_no_document(tmp_path: Path, number: bytes) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "one", "score": ' + number + b"}\n")
    assert texts_of(path) == (["one"], [])


def test_a_text_that_is_null_is_an_empty_document(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path / "a.jsonl", b'{"text": null}\n{"text": "x"}\n')) == (["", "x"], [])


def test_blank_lines_are_no_documents_and_keep_the_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\n{"text": "one"}\n \n\nbroken\n{"text": "two"}')
    texts, [broken] = texts_of(path)
    assert texts == ["one", "two"]
    assert broken.line == 5


def test_a_text_field_may_be_further_in(tmp_path: Path) -> None:
    """The fast parser and the tolerant one, which a NaN brings in, follow the same path."""
    entry = msgspec.structs.replace(ENTRY, text_field="meta.text", source_field="meta.set")
    good = [b'{"meta": {"text": "one", "set": "a"}}', b'{"x": NaN, "meta": {"text": "two", "set": "b"}}']
    path = write(tmp_path / "a.jsonl", b"\n".join(good) + b"\n")
    [batch] = read(Piece(Source(path.name, path)), entry, described(path), print, lambda size: None)
    assert batch.texts == ["one", "two"]
    assert batch.labels == ["a", "b"]

    bad = [b'{"meta": {"txt": "x"}}', b'{"meta": 5}', b'{"meta": {"text": ["x"]}}']
    path = write(tmp_path / "b.jsonl", b"\n".join([good[0], *bad]))
    texts, broken = texts_of(path, entry)
    assert texts == ["one"]
    assert [item.reason for item in broken] == [
        "it has no field 'meta.text'; its fields: meta, meta.txt",
        "it has no field 'meta.text'; its fields: meta",
        "its field 'meta.text' is an array, not text",
    ]


def test_a_field_whose_own_name_has_dots_is_read(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, text_field="meta.text")
    path = write(tmp_path / "a.jsonl", b'{"meta.text": "one"}\n')
    assert texts_of(path, entry) == (["one"], [])


@pytest.mark.parametrize("between", [b"\n", b"\n\n", b"\n \n", b"\r\n\r\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"\n", b"", b"\r\n"])
def test_two_objects_on_a_line_are_rejected_whatever_the_other_lines_are(
    tmp_path: Path, between: bytes, end: bytes
) -> None:
    """A blank line makes up for the second object where only numbers are compared."""
    good = b'{"text": "one"}'
    texts, [broken] = texts_of(write(tmp_path / "a.jsonl", good + good + between + good + end))
    assert texts == ["one"]
    assert (broken.line, broken.reason) == (1, "it has more than one JSON value: the second is at 16")


@pytest.mark.parametrize(
    "count", [0, 1, json_lines.FEW - 1, json_lines.FEW, json_lines.FEW + 1, 3 * json_lines.FEW]
)
@pytest.mark.parametrize("rest", [b"", b"}"])
def test_line_breaks_are_the_same_whether_they_are_few_or_many(count: int, rest: bytes) -> None:
    data = b"{}\n" * count + rest
    assert json_lines.breaks_of(data + b"\n\n", len(data)).tolist() == [3 * line + 2 for line in range(count)]


def test_lines_of_a_piece_are_counted_where_a_read_fails_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken line is named by its number in the file, for which the part before the piece is read."""
    good = b'{"text": "one"}\n'
    path = write(tmp_path / "a.jsonl", good * 5 + b"{broken\n")
    failures = [OSError(errno.ESTALE, "stale")]
    opened = CheckedFile._open

    def flaky(self: CheckedFile) -> BinaryIO:
        if failures:
            raise failures.pop()
        return opened(self)

    monkeypatch.setattr(files, "PAUSE", 0.0)
    piece = Piece(Source(path.name, path), 3 * len(good), path.stat().st_size)
    rejected: list[Broken] = []
    report = numbered(piece, rejected.append)
    monkeypatch.setattr(CheckedFile, "_open", flaky)
    report(Broken(path.name, 3, 0, "it is not JSON", ""))
    assert [broken.line for broken in rejected] == [6]
    assert failures == []

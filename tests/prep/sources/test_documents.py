from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources import documents, files
from jobctl.prep.sources.documents import Broken, Piece, read
from jobctl.prep.sources.origins import Source
from tests.prep.conftest import lines, some_texts

TEXTS = [*some_texts(200), "a\n\nb", "x" * 100_000, "é", "", "\u0000\u001f", "<|endoftext|>"]
ENTRY = DatasetEntry(summary="test", license="none")


def described(path: Path) -> SourceFile:
    data = path.read_bytes()
    return SourceFile(path=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def texts_of(
    path: Path, entry: DatasetEntry = ENTRY, piece: Piece | None = None
) -> tuple[list[str], list[Broken]]:
    broken: list[Broken] = []
    piece = piece or Piece(Source(path.name, path))
    batches = read(piece, entry, described(path), broken.append, lambda size: None)
    return [text for batch in batches for text in batch.texts], broken


def write(path: Path, data: bytes) -> Path:
    if path.suffix == ".zst":  # two frames: such files are often appended to
        packer, half = zstandard.ZstdCompressor(), len(data) // 2
        data = packer.compress(data[:half]) + packer.compress(data[half:])
    elif path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.json.gz", "a.jsonl.gz", "a.json"])
def test_every_kind_of_lines_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    assert texts_of(write(tmp_path / name, lines(TEXTS, id=1, meta={"set": "x"}))) == (TEXTS, [])


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


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    text = "\n".join(TEXTS)
    assert texts_of(write(tmp_path / name, text.encode())) == ([text], [])


def test_a_separator_line_ends_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "BLOCK", 7)  # so that separators lie across blocks
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
    monkeypatch.setattr(documents, "BLOCK", size)
    entry = DatasetEntry(summary="", license="", separator="<|end|>")
    assert texts_of(write(tmp_path / "a.txt", data), entry) == (["one", "two"], [])


def test_a_byte_order_mark_is_none_of_the_first_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "one"}\nbroken\n')
    texts, broken = texts_of(path)
    assert texts == ["one"]
    assert [(item.line, item.offset) for item in broken] == [(2, 19)]


def test_broken_lines_of_a_piece_have_their_number_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BLOCK", 5)
    lines = [b'{"text": "x"}' if number % 3 else b"broken %d" % number for number in range(1, 40)]
    path = write(tmp_path / "a.jsonl", b"\n".join(lines) + b"\n")
    size = path.stat().st_size
    pieces = [Piece(Source(path.name, path), start, min(start + 60, size)) for start in range(0, size, 60)]
    found = [broken for piece in pieces for broken in texts_of(path, piece=piece)[1]]
    assert [(item.line, item.sample) for item in found] == [(n, f"broken {n}") for n in range(3, 40, 3)]


def test_broken_lines_are_reported_with_their_place_and_the_others_kept(tmp_path: Path) -> None:
    good = [b'{"text": "one"}', b'{"text": "two"}', b"", b'{"text": "three"}']
    bad = [b'{"text": "cut', b'{"txt": "no field"}', b'{"text": null}', b'{"text": 5}', b"not json", b"[1]"]
    mixed = [good[0], bad[0], good[1], bad[1], good[2], *bad[2:], good[3]]
    path = write(tmp_path / "a.jsonl", b"\n".join(mixed))
    texts, broken = texts_of(path)
    assert texts == ["one", "two", "three"]
    data = path.read_bytes()
    assert [data[item.offset :].split(b"\n")[0] for item in broken] == bad
    assert [item.line for item in broken] == [2, 4, 6, 7, 8, 9]
    assert all(item.reason and item.file == "a.jsonl" for item in broken)


def test_bytes_that_are_not_utf8_become_replacement_characters(tmp_path: Path) -> None:
    raw = b"caf\xe9 \xff\xfe \xf0\x9f\x99 ok \xed\xa0\x80"
    expected = raw.decode("utf-8", errors="replace")
    assert texts_of(write(tmp_path / "a.txt", raw)) == ([expected], [])
    assert texts_of(write(tmp_path / "a.jsonl", b'{"text": "' + raw + b'"}\n')) == ([expected], [])


def test_lone_surrogates_become_replacement_characters_and_pairs_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rb'{"text": "a\ud800b \ud83d\ude42"}' + b"\n" + b'{"text": "c"}\n')
    assert texts_of(path) == (["a\ufffdb 🙂", "c"], [])


def test_a_line_beyond_the_limit_is_reported_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BLOCK", 64)
    monkeypatch.setattr(documents, "LONGEST", 200)
    path = write(tmp_path / "a.jsonl", lines(["one", "x" * 1000, "two", "y" * 500, "three"]))
    texts, broken = texts_of(path)
    assert texts == ["one", "two", "three"]
    assert [item.line for item in broken] == [2, 4]
    texts, broken = texts_of(write(tmp_path / "b.txt", b"z" * 1000))
    assert (texts, [item.offset for item in broken]) == ([], [0])


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


def test_labels_and_languages_come_from_nested_fields(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "meta": {"set": "books", "lang": {"id": "en"}}},
        {"text": "b"},
        {"text": "c", "meta": 3},
    ]
    path = write(tmp_path / "a.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    entry = DatasetEntry(summary="", license="", source_field="meta.set", language_field="meta.lang.id")
    (batch,) = read(Piece(Source("a.jsonl", path)), entry, described(path), print, lambda size: None)
    assert batch.labels == ["books", "", ""]
    assert batch.languages == ["en", "", ""]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet", "a.txt"])
def test_a_file_changed_since_the_manifest_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path)
    else:
        write(path, lines(TEXTS))
    other = SourceFile(path=name, size=path.stat().st_size, sha256="0" * 64)
    with pytest.raises(UserError, match=f"{name} has other bytes"):
        list(read(Piece(Source(name, path)), ENTRY, other, lambda item: None, lambda size: None))


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz", "a.parquet"])
def test_a_damaged_container_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"this is no such file" * 10)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        texts_of(path)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", lines(TEXTS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="is damaged"):
        texts_of(path)


def test_a_truncated_zst_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.zst", lines(TEXTS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="is damaged"):
        texts_of(path)


def test_reads_that_fail_and_come_back_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", lines(TEXTS))
    failures = [5, 116, 110]  # EIO, ESTALE, ETIMEDOUT
    monkeypatch.setattr(files, "PAUSE", 0.0)

    class Flaky:
        def __init__(self, name: Path, mode: str, buffering: int) -> None:
            self.file = open(name, mode, buffering=buffering)  # noqa: SIM115

        def readinto(self, buffer: memoryview) -> int:
            if failures and self.file.tell():
                raise OSError(failures.pop(), "gone for a moment")
            return self.file.readinto(memoryview(buffer)[:1000])

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    monkeypatch.setattr(files, "open", Flaky, raising=False)
    assert texts_of(path) == (TEXTS, [])
    assert not failures


def test_reads_that_stay_away_are_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", lines(TEXTS))
    expected = described(path)
    monkeypatch.setattr(files, "PAUSE", 0.0)

    def gone(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "open", gone, raising=False)
    with pytest.raises(
        UserError, match=r"a\.jsonl cannot be read: Input/output error\n.*the same command again"
    ):
        list(read(Piece(Source("a.jsonl", path)), ENTRY, expected, print, lambda size: None))


def test_a_parquet_file_is_read_a_few_megabytes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    texts = [str(number) * 100_000 for number in range(200)]
    pyarrow.parquet.write_table(
        pyarrow.table({"text": texts}), path, row_group_size=100, use_dictionary=False
    )
    piece = Piece(Source(path.name, path))
    batches = list(read(piece, ENTRY, described(path), lambda broken: None, lambda size: None))
    assert [text for batch in batches for text in batch.texts] == texts
    assert max(sum(map(len, batch.texts)) for batch in batches) <= 2 * documents.BLOCK


def test_a_parquet_row_beyond_the_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST", 1000)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b" * 2000, "c"]}), path)
    texts, broken = texts_of(path)
    assert texts == ["a", "c"]
    assert [(item.line, item.reason) for item in broken] == [(2, "longer than 1000 characters")]

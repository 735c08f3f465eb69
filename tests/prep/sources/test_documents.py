from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode.fast import resident
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources import files, plain_text
from jobctl.prep.sources import lines as json_lines
from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.documents import field_names, read
from jobctl.prep.sources.listing import Source
from tests.prep.conftest import lines
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of, write


def test_bytes_that_are_not_utf8_become_replacement_characters(tmp_path: Path) -> None:
    raw = b"caf\xe9 \xff\xfe \xf0\x9f\x99 ok \xed\xa0\x80"
    expected = raw.decode("utf-8", errors="replace")
    assert texts_of(write(tmp_path / "a.txt", raw)) == ([expected], [])
    assert texts_of(write(tmp_path / "a.jsonl", b'{"text": "' + raw + b'"}\n')) == ([expected], [])


def test_a_line_beyond_the_limit_is_reported_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in (json_lines, plain_text):
        monkeypatch.setattr(reader, "BLOCK", 64)
        monkeypatch.setattr(reader, "LONGEST", 200)
    path = write(tmp_path / "a.jsonl", lines(["one", "x" * 1000, "two", "y" * 500, "three"]))
    texts, broken = texts_of(path)
    assert texts == ["one", "two", "three"]
    assert [item.line for item in broken] == [2, 4]
    texts, broken = texts_of(write(tmp_path / "b.txt", b"z" * 1000))
    assert (texts, [item.offset for item in broken]) == ([], [0])


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


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.warc"])
def test_a_damaged_container_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"this is no such file" * 10)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        texts_of(path)


@pytest.mark.parametrize("end", ["gz", "zst", "xz", "bz2", "lz4"])
def test_a_file_that_is_not_packed_as_its_name_says_is_not_called_damaged(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"a.jsonl.{end}"
    for data, said in ((b'{"text": "x"}', "it is not packed"), (b"", "it is empty")):
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"a\.jsonl\.{end} is not a \.{end} file: {said}"):
            texts_of(path)

    path.write_bytes((gzip.compress if end != "gz" else bz2.compress)(b"x"))
    with pytest.raises(UserError, match=r"it is packed as \.(gz|bz2)"):
        texts_of(path)


@pytest.mark.parametrize("end", ["zst", "lz4"])
def test_a_frame_that_is_to_be_skipped_may_come_first(tmp_path: Path, end: str) -> None:
    """As pzstd and seekable files have them."""
    path = write(tmp_path / f"a.jsonl.{end}", lines(["one"]))
    path.write_bytes(b"\x50\x2a\x4d\x18\x03\0\0\0abc" + path.read_bytes())
    assert texts_of(path) == (["one"], [])


@pytest.mark.parametrize("end", ["gz", "zst", "xz", "bz2", "lz4"])
def test_a_truncated_file_is_named(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / f"a.jsonl.{end}", lines(TEXTS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="is damaged"):
        texts_of(path)


def test_a_zstandard_window_beyond_the_usual_is_read(tmp_path: Path) -> None:
    """As ``zstd --long=28`` writes it: a plain ``zstd -d`` refuses it."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(packer.compress(lines(TEXTS)) + packer.flush())
    assert texts_of(path) == (TEXTS, [])


def window_frame(data: bytes, exponent: int) -> bytes:
    """Make a Zstandard frame of one raw block that asks for a window of 2^(10 + exponent) bytes (RFC 8878)."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0, exponent << 3])
    last_raw_block = (len(data) << 3 | 1).to_bytes(3, "little")
    return header + last_raw_block + data


def test_the_longest_window_is_read_in_little_memory(tmp_path: Path) -> None:
    """A frame that asks for 2 GiB takes memory only for the text that it has."""
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(window_frame(lines(["one", "two"]), 21))
    before = resident()
    assert texts_of(path) == (["one", "two"], [])
    assert resident() - before < 64 << 20


def test_a_window_that_nobody_reads_is_not_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(window_frame(lines(["one"]), 22))
    with pytest.raises(
        UserError, match=r"a\.jsonl\.zst asks for a Zstandard window of more than 2 GiB\n.*long=31"
    ):
        texts_of(path)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.json", b'[{"text": "x", "meta": {"set": 1}}]', ["text", "meta", "meta.set"]),
        ("a.json", b'{\n "text": "x"\n}', ["text"]),
        ("a.csv.gz", b"id,text\n1,x\n", ["id", "text"]),
        (
            "a.warc",
            b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 0\r\n\r\n\r\n\r\n",
            ["WARC-Type", "Content-Length"],
        ),
        ("a.txt", b"x", []),
    ],
)
def test_every_kind_tells_its_fields(tmp_path: Path, name: str, data: bytes, expected: list[str]) -> None:
    path = write(tmp_path / name, data)
    assert field_names([Source(path.name, path)]) == expected


def test_the_fields_of_a_source_are_those_of_its_first_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", lines(["x"], meta={"set": "books"}))
    assert field_names([Source(path.name, path)]) == ["text", "meta", "meta.set"]
    table = pyarrow.table({"text": ["x"], "meta": [{"set": "books"}]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert field_names([Source("a.parquet", tmp_path / "a.parquet")]) == ["text", "meta", "meta.set"]
    assert field_names([]) == []


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


def test_a_piece_is_held_to_its_own_bytes_alone(tmp_path: Path) -> None:
    """The lines at its edges reach into other pieces, whose tasks look at those bytes."""
    path = write(tmp_path / "a.jsonl", lines(TEXTS))
    data = path.read_bytes()
    edges = [0, 1000, 5000, len(data)]
    texts: list[str] = []
    for start, stop in itertools.pairwise(edges):
        digest = hashlib.sha256(data[start:stop]).hexdigest()
        texts += texts_of(path, piece=Piece(Source("a.jsonl", path), start, stop, digest))[0]

    assert texts == TEXTS

    piece = Piece(Source("a.jsonl", path), 1000, 5000, hashlib.sha256(data[1000:5000]).hexdigest())
    path.write_bytes(data[:999] + b"?" + data[1000:5000] + b"?" + data[5001:])
    texts_of(path, piece=piece)
    for place in (1000, 4999):
        path.write_bytes(data[:place] + b"~" + data[place + 1 :])
        with pytest.raises(UserError, match=r"a\.jsonl has other bytes"):
            texts_of(path, piece=piece)

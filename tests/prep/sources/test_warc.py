from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import warc
from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import ENTRY, TEXTS, described, texts_of, write


def record(kind: str, content: bytes, content_type: str = "text/plain", **more: str) -> bytes:
    """A record as ISO 28500 describes it."""
    fields = {"WARC-Type": kind, "WARC-Target-URI": "http://example.org/", "Content-Type": content_type}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    fields["Content-Length"] = str(len(content))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + content + b"\r\n\r\n"


INFO = record("warcinfo", b"software: x\r\n", "application/warc-fields")


def test_the_texts_of_a_crawl_are_documents(tmp_path: Path) -> None:
    """Each record is a member of its own in the .gz, as Common Crawl packs them."""
    parts = [INFO, *(record("conversion", text.encode()) for text in TEXTS)]
    path = tmp_path / "CC-MAIN.warc.wet.gz"
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    assert texts_of(path) == (TEXTS, [])
    assert texts_of(write(tmp_path / "a.warc", b"".join(parts))) == (TEXTS, [])


@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_edges_of_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(warc, "BLOCK", block)
    data = INFO + record("conversion", b"one\r\n\r\nWARC/1.0\r\n") + record("resource", "zw\u00f6lf".encode())
    assert texts_of(write(tmp_path / "a.warc", data)) == (["one\r\n\r\nWARC/1.0\r\n", "zwölf"], [])


def test_the_named_fields_of_a_record_are_fields(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(
        ENTRY, source_field="WARC-Target-URI", language_field="WARC-Identified-Content-Language"
    )
    data = record("conversion", b"one", WARC_Identified_Content_Language="deu,eng")
    path = write(tmp_path / "a.warc", data)
    [batch] = read(Piece(Source(path.name, path)), entry, described(path), print, lambda size: None)
    assert (batch.texts, batch.labels, batch.languages) == (["one"], ["http://example.org/"], ["deu,eng"])


def test_a_page_that_is_no_extracted_text_is_rejected(tmp_path: Path) -> None:
    page = record("response", b"HTTP/1.1 200 OK\r\n\r\n<p>x", "application/http; msgtype=response")
    asked = record("request", b"GET /", "application/http; msgtype=request")
    path = write(tmp_path / "a.warc", INFO + asked + page + record("conversion", b"one"))
    texts, [broken] = texts_of(path)
    assert texts == ["one"]
    assert (broken.line, broken.offset) == (3, len(INFO + asked))
    assert broken.reason == "a WARC record of type response with application/http content: no extracted text"
    assert broken.sample == "http://example.org/"


def test_a_record_beyond_the_limit_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warc, "BLOCK", 64)
    monkeypatch.setattr(warc, "LONGEST", 200)
    texts, [broken] = texts_of(
        write(tmp_path / "a.warc", record("conversion", b"x" * 1000) + record("conversion", b"one"))
    )
    assert texts == ["one"]
    assert broken.reason == "longer than 200 bytes"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (record("conversion", b"one")[:-6], "it ends inside a WARC record"),
        (INFO + b"something else\r\n", f"at byte {len(INFO)} no WARC record begins"),
        (b"WARC/1.0\r\nWARC-Type: conversion\r\n\r\none", "at byte 0 has no Content-Length"),
        (b"WARC/1.0\r\nContent-Length: -5\r\n\r\none", "at byte 0 has no Content-Length"),
    ],
)
def test_a_file_whose_records_cannot_be_found_is_damaged(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=f"a.warc is damaged: .*{reason}"):
        texts_of(write(tmp_path / "a.warc", data))

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources.batches import (
    Batch,
    Broken,
    Fields,
    Piece,
    json_type,
    nested_names,
    without_surrogates,
)
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import described, write


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


def entry_of(text: str = "text", label: str = "", language: str = "") -> DatasetEntry:
    return DatasetEntry(summary="", license="", text_field=text, source_field=label, language_field=language)


def read_rows(tmp_path: Path, entry: DatasetEntry, *rows: bytes) -> tuple[Batch, list[Broken]]:
    """Return what a file of these lines holds, and its broken lines."""
    path = write(tmp_path / "a.jsonl", b"".join(row + b"\n" for row in rows))
    broken: list[Broken] = []
    (batch,) = read(Piece(Source("a.jsonl", path)), entry, described(path), broken.append, lambda size: None)
    return batch, broken


@pytest.mark.parametrize("broken_beside_it", [False, True], ids=["fast", "one by one"])
@pytest.mark.parametrize(
    ("entry", "row"),
    [
        (
            entry_of("doc.body.text", "doc.set", "doc.lang"),
            {"doc": {"body": {"text": "T"}, "set": "S", "lang": "L"}},
        ),
        (entry_of("doc.text", "set", "meta.lang"), {"doc": {"text": "T"}, "set": "S", "meta": {"lang": "L"}}),
        (entry_of("text", "set", "lang"), {"lang": "L", "set": "S", "text": "T", "more": [1]}),
        (entry_of("text", "a.b", "a.c"), {"text": "T", "a": {"b": "S", "c": "L"}}),
    ],
    ids=["all in one object", "text nested", "flat", "labels in one object"],
)
def test_every_field_may_be_anywhere_and_both_readers_find_it(
    tmp_path: Path, entry: DatasetEntry, row: dict[str, object], broken_beside_it: bool
) -> None:
    rows = [json.dumps(row).encode(), *([b"{broken"] if broken_beside_it else [])]
    batch, broken = read_rows(tmp_path, entry, *rows)
    assert batch == Batch(["T"], ["S"], ["L"])
    assert len(broken) == broken_beside_it


@pytest.mark.parametrize(
    ("text_field", "row", "reason"),
    [
        ("text", b"[1]", "it is an array, not a JSON object"),
        ("text", b"null", "it is null, not a JSON object"),
        ("text", b'{"id": 1, "meta": {"a": 2}}', "it has no field 'text'; its fields: id, meta, meta.a"),
        ("text", b'{"text": 3}', "its field 'text' is a number, not text"),
        ("text", b'{"text": true}', "its field 'text' is a boolean, not text"),
        ("text", b'{"text": ["a"]}', "its field 'text' is an array, not text"),
        ("text", b'{"text": {"a": 1}}', "its field 'text' is an object, not text"),
        ("a.b", b'{"a": 1}', "it has no field 'a.b'; its fields: a"),
        ("a.b", b'{"a": {"c": 1}}', "it has no field 'a.b'; its fields: a, a.c"),
        ("a.b", b'{"a": {"b": 2.5}}', "its field 'a.b' is a number, not text"),
    ],
)
def test_a_line_that_is_no_document_says_why_and_hides_no_other(
    tmp_path: Path, text_field: str, row: bytes, reason: str
) -> None:
    whole = b'{"text": "w"}' if text_field == "text" else b'{"a": {"b": "w"}}'
    batch, (broken,) = read_rows(tmp_path, entry_of(text_field), whole, row, whole)
    assert batch.texts == ["w", "w"]
    assert (broken.line, broken.offset, broken.reason) == (2, len(whole) + 1, reason)
    assert broken.sample == row.decode()


def test_a_text_that_is_null_is_an_empty_document(tmp_path: Path) -> None:
    batch, broken = read_rows(tmp_path, entry_of("a.b"), b'{"a": {"b": null}}', b'{"a": {"b": "x"}}')
    assert (batch.texts, broken) == (["", "x"], [])


def test_a_field_whose_own_name_has_dots_wins_over_a_nested_one(tmp_path: Path) -> None:
    row = b'{"a.b": "own", "a": {"b": "nested"}}'
    fields = Fields(entry_of("a.b"))
    assert fields.text_of(json.loads(row)) == "own"
    assert fields.text_of({"a": {"b": "nested"}}) == "nested"


def test_labels_that_are_no_text_become_text_and_absent_ones_are_empty(tmp_path: Path) -> None:
    rows = [
        b'{"text": "a", "n": 3}',
        b'{"text": "b", "n": null}',
        b'{"text": "c"}',
        b'{"text": "d", "n": false}',
    ]
    assert read_rows(tmp_path, entry_of(label="n"), *rows)[0].labels == ["3", "", "", "False"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("\ud83d\ude42", "\U0001f642"),
        ("a\ud83db", "a\ufffdb"),
        ("\ude42\ud83d", "\ufffd\ufffd"),
        ("", ""),
    ],
)
def test_two_halves_of_a_character_are_joined_and_one_alone_is_replaced(text: str, clean: str) -> None:
    assert without_surrogates(text) == clean


def test_half_characters_are_replaced_in_labels_too(tmp_path: Path) -> None:
    row = b'{"text": "x \\ud83d", "meta": {"set": "\\ude42 y"}}'
    batch, broken = read_rows(tmp_path, entry_of(label="meta.set"), row)
    assert (batch.texts, batch.labels, broken) == (["x \ufffd"], ["\ufffd y"], [])


def test_names_of_fields_have_dots_at_every_depth() -> None:
    assert nested_names({"a": {"b": {"c": 1}, "d": []}, "e": 2}) == ["a", "a.b", "a.b.c", "a.d", "e"]
    assert nested_names([{"a": 1}]) == []


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("", "a string"),
        ([], "an array"),
        ({}, "an object"),
        (None, "null"),
    ],
)
def test_a_value_has_the_name_that_json_gives_it(value: object, name: str) -> None:
    assert json_type(value) == name


def test_the_fast_reader_refuses_what_the_slow_one_has_to_explain() -> None:
    fields = Fields(entry_of("a.b"))
    for line in (b'{"a": {"c": 1}}', b'{"a": {"b": 1}}', b"{", b"[]"):
        with pytest.raises(msgspec.DecodeError):
            fields.decoded(line)

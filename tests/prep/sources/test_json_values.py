from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import json_values
from jobctl.prep.sources.batches import Broken, Piece
from jobctl.prep.sources.json_values import form_of
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import TEXTS, texts_of, write

HARD = ['a"b', "\\", '\\"', "[{]},", "]", "\u2028\n", "", "é🙂"]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.zst", "a.json.lz4"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_its_objects(tmp_path: Path, name: str, indent: int | None) -> None:
    texts = [*TEXTS, *HARD]
    data = json.dumps([{"id": {"x": [1]}, "text": text} for text in texts], indent=indent).encode()
    assert texts_of(write(tmp_path / name, data)) == (texts, [])


def test_objects_that_are_printed_over_lines_are_read(tmp_path: Path) -> None:
    texts = [*HARD, "last"]
    data = b"\n".join(json.dumps({"text": text}, indent=1).encode() for text in texts)
    assert texts_of(write(tmp_path / "a.json", data)) == (texts, [])


@given(st.lists(st.text(max_size=12), max_size=8), st.integers(1, 9), st.booleans(), st.booleans())
def test_the_edges_of_blocks_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], block: int, is_array: bool, ascii_only: bool
) -> None:
    values = [json.dumps({"text": text}, indent=1, ensure_ascii=ascii_only) for text in texts]
    whole = "[" + ",".join(values) + "]" if is_array else "\n".join(values)
    path = tmp_path_factory.mktemp("values") / "a.json"
    path.write_bytes(whole.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "BLOCK", block)
        assert texts_of(path) == (texts, [])


def test_a_broken_value_is_rejected_and_the_others_kept(tmp_path: Path) -> None:
    data = b'[{"text": "one"}, {"txt": "two"}, 5, {"text": "x" "y"}, {"text": "three", "n": NaN}, ]'
    texts, broken = texts_of(write(tmp_path / "a.json", data))
    assert texts == ["one", "three"]
    assert [item.line for item in broken] == [2, 3, 4]
    assert [data[item.offset :][:3] for item in broken] == [b'{"t', b"5, ", b'{"t']
    assert "no field 'text'; its fields: txt" in broken[0].reason
    assert broken[1].reason == "it is a number, not a JSON object"


def test_a_value_beyond_the_limit_is_rejected_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "BLOCK", 64)
    monkeypatch.setattr(json_values, "LONGEST", 200)
    for place, expected in ((1, ["one", "three"]), (0, ["two", "three"])):
        texts = ["one", "two", "three"]
        texts[place] = "x" * 1000
        path = write(tmp_path / "a.json", json.dumps([{"text": text} for text in texts]).encode())
        kept, [broken] = texts_of(path)
        assert kept == expected
        assert (broken.line, broken.reason) == (place + 1, "longer than 200 bytes")


@pytest.mark.parametrize(
    "end", [b'[{"text": "one"}, {"text": "tw', b'[{"text": "one"}, ', b'{\n"text": "one']
)
def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path, end: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.json is damaged: it ends inside a JSON value or array"):
        texts_of(write(tmp_path / "a.json", end))


def test_what_is_behind_an_array_is_rejected(tmp_path: Path) -> None:
    texts, [broken] = texts_of(write(tmp_path / "a.json", b'[{"text": "one"}]\n more'))
    assert texts == ["one"]
    assert broken == Broken("a.json", 2, 17, "there is more text behind the last value", "more")


@pytest.mark.parametrize("data", [b"[]", b" [ \n]", b"\xef\xbb\xbf[]"])
def test_an_empty_array_has_no_document(tmp_path: Path, data: bytes) -> None:
    assert texts_of(write(tmp_path / "a.json", data)) == ([], [])


def test_an_array_that_several_tasks_share_is_read_once(tmp_path: Path) -> None:
    """The plan is made of names and sizes, so it cuts the file before anyone knows its form."""
    path = write(tmp_path / "a.json", json.dumps([{"text": text} for text in TEXTS]).encode())
    size = path.stat().st_size
    source = Source(path.name, path)
    first = texts_of(path, piece=Piece(source, 0, size // 2))
    second = texts_of(path, piece=Piece(source, size // 2, size))
    assert (first, second) == ((TEXTS, []), ([], []))


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b'{"text": 1}\n{"text": 2}\n', "lines"),
        (b'{"text": 1}', "lines"),
        (b'\n{\n "text": 1}', "values"),
        (b'{"meta": {\n "text": 1}}', "values"),
        (b" \n[\n", "array"),
        (b"\xef\xbb\xbf[", "array"),
        (b"", "lines"),
    ],
)
def test_the_beginning_tells_the_form(head: bytes, form: str) -> None:
    assert form_of(head) == form

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from jobctl.prep.encode.tokenizer_file import TokenizerFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    added = [
        {"id": 3, "content": "<a>", "special": False},
        {"id": 4, "content": "<a>b", "special": False},
        {"id": 5, "content": "<end>", "special": True},
    ]
    steps = [{"type": "Prepend", "prepend": "_"}, {"type": "Replace"}]
    model = {"type": "BPE", "vocab": {"x": 0, "y": 1, "xy": 2}, "merges": []}
    data = {"added_tokens": added, "normalizer": {"type": "Sequence", "normalizers": steps}, "model": model}
    (tmp_path / "tokenizer.json").write_bytes(msgspec.json.encode(data))
    return tmp_path / "tokenizer.json"


def test_control_tokens_are_the_added_ones_that_are_not_special(path: Path) -> None:
    assert TokenizerFile(path).control_ids == {"<a>": 3, "<a>b": 4}
    assert TokenizerFile(path).sorted_control_ids.tolist() == [3, 4]
    assert TokenizerFile(path, "text").control_ids == {}


def test_a_text_is_split_at_control_tokens_the_longest_first(path: Path) -> None:
    file = TokenizerFile(path)
    assert file.segments("x<a>b<a><end>") == ["x", "<a>b", "", "<a>", "<end>"]
    assert file.segments("") == [""]
    assert TokenizerFile(path, "text").segments("x<a>b") == ["x<a>b"]


def test_each_library_gets_the_file_that_keeps_special_tokens_text(path: Path) -> None:
    def contents(data: str) -> list[tuple[str, bool]]:
        return [(token["content"], token["special"]) for token in msgspec.json.decode(data)["added_tokens"]]

    assert contents(TokenizerFile(path).for_gigatoken()) == [("<a>", False), ("<a>b", False)]
    assert contents(TokenizerFile(path, "text").for_gigatoken()) == []
    assert contents(TokenizerFile(path, "text").for_reference()) == [
        ("<a>", True),
        ("<a>b", True),
        ("<end>", True),
    ]


def test_a_text_that_goes_on_gets_no_space_in_front(path: Path) -> None:
    file = TokenizerFile(path)
    assert file.puts_a_space_first
    steps = msgspec.json.decode(file.for_reference(prefix=False))["normalizer"]["normalizers"]
    assert steps == [{"type": "Replace"}]


def test_the_vocabulary_is_the_models_own(path: Path) -> None:
    assert TokenizerFile(path).vocabulary() == ["x", "y", "xy"]

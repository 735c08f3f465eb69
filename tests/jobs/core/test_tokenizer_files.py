"""A tokenizer's folder: which folder is one, and how many ids it has."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.tokenizer_files import copy_files, is_folder, named_folder, number_of_ids


def folder_of(path: Path, contents: Any) -> Path:
    path.mkdir(parents=True)
    (path / "tokenizer.json").write_text(contents if isinstance(contents, str) else json.dumps(contents))
    return path


def test_a_slash_or_a_dot_makes_it_a_folder() -> None:
    assert all(map(is_folder, ("./mine", "/hub/mine", "a/b", "..", "~/mine")))
    assert not any(map(is_folder, ("gpt2", "SmolLM2-135M", "llama3.1")))


@pytest.mark.parametrize(
    ("contents", "ids"),
    [
        ({"model": {"vocab": {"a": 0, "b": 1}}}, 2),
        ({"model": {"vocab": {"a": 0, "b": 7}}, "added_tokens": [{"id": 4, "content": "<s>"}]}, 8),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 9, "content": "<s>"}]}, 10),
        ({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5]]}}, 2),
    ],
)
def test_the_number_of_ids_is_the_largest_and_one(tmp_path: Path, contents: Any, ids: int) -> None:
    assert number_of_ids(folder_of(tmp_path / "t", contents)) == ids


@pytest.mark.parametrize("contents", ["", "{", "[]", '{"model": {"vocab": {"a": "x"}}}'])
def test_a_damaged_file_is_named(tmp_path: Path, contents: str) -> None:
    with pytest.raises(UserError, match=r"tokenizer.json is not a tokenizer"):
        number_of_ids(folder_of(tmp_path / "t", contents))


def test_what_is_no_tokenizers_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        named_folder(str(tmp_path / "nowhere"))

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no tokenizer.json"):
        named_folder(str(tmp_path / "empty"))

    folder_of(tmp_path / "two words", {})
    with pytest.raises(UserError, match="'two words' cannot name a data set"):
        named_folder(str(tmp_path / "two words"))


def test_only_the_tokenizers_files_are_copied(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "t", {})
    (source / "special_tokens_map.json").write_text("{}")
    (source / "model.safetensors").write_text("large")
    (tmp_path / "copy").mkdir()
    copy_files(source, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "special_tokens_map.json",
        "tokenizer.json",
    ]

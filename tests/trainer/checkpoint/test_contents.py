"""Damage of any small file is said in words; nothing outside the folder is read, whatever a file says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint.contents import read_contents
from jobctl.trainer.checkpoint.integrity import Damaged, content_sum
from tests.trainer.checkpoint.saving import data_files, rewrite, save, spoil

TENSORS = {"model.w": torch.arange(12.0).reshape(4, 3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path, TENSORS)


def test_a_checkpoint_says_what_it_holds(folder: Path) -> None:
    contents = read_contents(folder)
    assert contents.state.step == 1
    assert contents.table.tensors["model.w"].shape == (4, 3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "rank-00000-00.safetensors",
        "state.json",
        "table.json",
    ]


@pytest.mark.parametrize("how", ["flipped", "truncated", "absent", "empty", "replaced"])
@pytest.mark.parametrize("name", ["table.json", "state.json", "checksums.json"])
def test_damage_of_a_small_file_is_said(folder: Path, name: str, how: str) -> None:
    spoil(folder / name, how)
    with pytest.raises(Damaged):
        read_contents(folder)


@pytest.mark.parametrize("how", ["truncated", "absent", "empty", "replaced"])
def test_a_data_file_of_another_size_is_said_before_it_is_read(folder: Path, how: str) -> None:
    (file,) = data_files(folder)
    spoil(file, how)
    with pytest.raises(Damaged, match=file.name):
        read_contents(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "it names no files"),
        ("[]", "it names no files"),
        ("{", "truncated"),
        ("\ud800", "checksums.json"),
        ('{"format": 2, "files": {}}', "does not name table.json"),
        ('{"format": 2, "files": {"../x": {"size": 1}}}', "'../x' is no name of a file beside it"),
        ('{"../x": {"size": 1, "sha256": ""}}', "'../x' is no name of a file beside it"),
        ('{"a": {"size": 1}}', "sha256"),
    ],
)
def test_checksums_that_cannot_be_right_are_damage(folder: Path, content: str, words: str) -> None:
    (folder / "checksums.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(Damaged, match=words):
        read_contents(folder)


@pytest.mark.parametrize("name", ["table.json", "state.json", "checksums.json"])
def test_files_of_a_later_version_are_refused_in_words(folder: Path, name: str) -> None:
    content = json.loads((folder / name).read_text())
    content["format"] = 77
    if name == "checksums.json":
        (folder / name).write_text(json.dumps(content))
    else:
        rewrite(folder, name, content)
    with pytest.raises(UserError, match=f"{name} has format 77"):
        read_contents(folder)


def test_a_table_that_nests_without_end_is_damage(folder: Path) -> None:
    text = b'{"x": ' + b"[" * 200_000
    (folder / "table.json").write_bytes(text)
    sums = json.loads((folder / "checksums.json").read_text())
    sums["files"]["table.json"] = {"size": len(text), "xxh3_128": content_sum(text)}
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(Damaged, match=r"table\.json"):
        read_contents(folder)


def forged(folder: Path, **changes: Any) -> None:
    """Change the one segment of the table, with checksums that agree."""
    table = json.loads((folder / "table.json").read_text())
    table["tensors"]["model.w"]["segments"][0] |= changes
    rewrite(folder, "table.json", table)


@pytest.mark.parametrize(
    "changes",
    [{"file": "../../secret"}, {"file": "/etc/passwd"}, {"begin": 0}, {"end": 1 << 60}, {"sizes": [4, 4]}],
)
def test_a_forged_table_reads_nothing(folder: Path, changes: dict[str, Any]) -> None:
    forged(folder, **changes)
    with pytest.raises(Damaged, match=r"model\.w"):
        read_contents(folder)

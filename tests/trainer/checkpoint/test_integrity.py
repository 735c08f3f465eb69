"""Only regular files of the folder itself are read; everything else is damage, said in words."""

import os
from pathlib import Path

import pytest

from jobctl.trainer.checkpoint.integrity import (
    CHECKSUMS_FILE,
    Damaged,
    content_sum,
    encode_checksums,
    is_plain,
    open_regular,
    read_checksums,
    read_small,
    size_problems,
)


def test_checksums_come_back_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / CHECKSUMS_FILE).write_bytes(encode_checksums({"state.json": b"{}"}, {"data.safetensors": 7}))
    checksums = read_checksums(tmp_path)
    assert checksums.old_files == {}
    assert checksums.files["state.json"].xxh3_128 == content_sum(b"{}")
    assert checksums.files["data.safetensors"].size == 7


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(Damaged, match="no regular file"):
        read_small(tmp_path / "state.json")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "state.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Damaged, match="symbolic links"):
        read_small(tmp_path / "state.json")
    with pytest.raises(OSError, match="symbolic links"), open_regular(tmp_path / "state.json"):
        raise AssertionError("it was opened")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        read_small(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\nb", "\0", "-rf"])
def test_names_that_leave_the_folder_are_not_plain(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize("name", ["rank-00000-00.safetensors", ".metadata", "__0_0.distcp", "state.json"])
def test_names_that_we_write_are_plain(name: str) -> None:
    assert is_plain(name)


def test_wrong_sizes_and_absent_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    lines = size_problems(tmp_path, [("a", 3), ("a", 4), ("b", 1)])
    assert lines == ["a: 3 bytes instead of 4", "b: No such file or directory"]

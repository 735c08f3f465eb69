"""Only regular files are read, and not without end."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import (
    decode_json,
    nearest_existing,
    open_regular,
    open_within,
    read_regular,
    read_text_file,
)


def test_a_regular_file_is_read_also_over_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file") == b"content"
    assert read_regular(tmp_path / "link", most=7) == b"content"


def test_a_fifo_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a regular file") as caught:
            open_regular(path)
        assert caught.value.filename == str(path)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(OSError, match="longer than 6 bytes"):
        read_regular(tmp_path / "file", most=6)


def test_a_file_that_is_too_long_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"12345")
    with open_within(path, 5) as file:
        assert file.read() == b"12345"

    with pytest.raises(OSError, match="longer than 4 bytes"):
        open_within(path, 4)


@pytest.mark.parametrize("data", [b'{"x": ' + b"[" * 200_000, b'"\xff"', b"[]", b"{", b""])
def test_json_of_another_user_is_a_value_or_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_json(data, str)


def test_the_nearest_folder_that_exists_is_the_path_itself_or_above_it(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a/b/c") == tmp_path
    assert nearest_existing(tmp_path) == tmp_path
    assert nearest_existing(Path("/no such folder/x")) == Path("/")


def test_a_file_of_the_user_that_cannot_be_read_is_a_message_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("é", encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"\xe9")
    assert read_text_file(tmp_path / "text") == "é"

    for name, reason in (("missing", "No such file or directory"), ("latin", "codec can't decode")):
        with pytest.raises(UserError, match=f"{name}: cannot be read: .*{reason}") as raised:
            read_text_file(tmp_path / name, hint="write it")
        assert "write it" in str(raised.value)

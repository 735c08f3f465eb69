"""Durable writes: all or nothing, and folders that several users share."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jobctl.jobs.core.durable import make_shared, partial_path, write_named, write_whole


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "record"
    write_whole(file, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        write_whole(file, b"new")
    assert raised.value.filename == str(file), "a message has to name the file"
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "record"
    write_whole(file, b"a long text")
    write_whole(file, b"short")
    assert file.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_never_share_a_partial_file(tmp_path: Path) -> None:
    names = {partial_path(tmp_path / "record") for _ in range(100)}
    assert len(names) == 100
    assert all(name.parent == tmp_path and name.name.startswith(".record.") for name in names)


def test_a_link_keeps_its_place_and_what_it_names_gets_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "named").write_bytes(b"a long old text")
    link = tmp_path / "link"
    link.symlink_to("named")
    write_named(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "named").read_bytes() == b"new"


def test_a_pipe_keeps_its_place_and_its_reader_gets_the_bytes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_named(pipe, b"new")
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)

    assert pipe.is_fifo()


def test_a_named_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "named"
    write_named(file, b"old")
    before = file.stat().st_ino
    write_named(file, b"new")
    assert (file.read_bytes(), file.stat().st_ino != before) == (b"new", True)


def test_a_shared_folder_takes_its_parents_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    make_shared(tmp_path / "runs")
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o1777


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o750)
    make_shared(tmp_path / "runs")
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o750

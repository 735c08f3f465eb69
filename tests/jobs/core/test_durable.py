"""Durable writes: all or nothing, and folders that several users share."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jobctl.jobs.core.durable import (
    keeps_its_place,
    make_shared,
    partial_path,
    sync_folder,
    write_named,
    write_whole,
)


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


def test_bytes_and_name_reach_the_disk_in_the_order_that_a_crash_cannot_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the bytes, then the new name, then the folder that holds the name."""
    calls: list[str] = []
    fsync = os.fsync
    replace = os.replace

    def synced(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        size = os.fstat(descriptor).st_size
        calls.append("folder" if is_folder else f"file of {size} bytes")
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_whole(tmp_path / "record", b"12345")
    assert calls == ["file of 5 bytes", "rename", "folder"]


def test_a_file_system_that_cannot_sync_a_folder_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    opened = len(os.listdir("/proc/self/fd"))

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    write_whole(tmp_path / "record", b"new")
    assert (tmp_path / "record").read_bytes() == b"new"

    sync_folder(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == opened, "a folder stays open"


def test_ctrl_c_leaves_the_old_bytes_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "record"
    write_whole(file, b"old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_in_a_folder_that_is_absent_is_named_and_not_its_partial_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(tmp_path / "absent" / "record", b"new")
    assert raised.value.filename == str(tmp_path / "absent" / "record")


def test_a_folder_at_the_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_whole(tmp_path / "record", b"new")
    assert raised.value.filename == str(tmp_path / "record")
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


def test_only_links_pipes_devices_and_folders_keep_their_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    kept = {name for name in ("file", "absent", "dangling", "pipe") if keeps_its_place(tmp_path / name)}
    assert kept == {"dangling", "pipe"}
    assert keeps_its_place(Path(os.devnull))
    assert keeps_its_place(tmp_path)


def test_a_link_to_a_file_that_is_absent_makes_that_file(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("later")
    write_named(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "later").read_bytes() == b"new"


def test_folders_on_the_way_are_made_and_the_umask_does_not_count(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    before = os.umask(0o077)
    try:
        make_shared(tmp_path / "runs")
        make_shared(tmp_path / "runs" / "demo")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) & 0o777 == 0o770
    assert stat.S_IMODE((tmp_path / "runs" / "demo").stat().st_mode) & 0o777 == 0o770


def test_a_folder_that_another_user_made_at_the_same_moment_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_the_owner(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", not_the_owner)
    make_shared(tmp_path / "runs")
    assert (tmp_path / "runs").is_dir()

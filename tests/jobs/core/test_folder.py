"""A folder filled by names from elsewhere: nothing is written or read over a link."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core.folder import Folder
from jobctl.jobs.core.names import UnsafeName

ACTIONS: dict[str, Callable[[Folder, str], object]] = {
    "create": lambda folder, name: folder.create(name).close(),
    "append": lambda folder, name: folder.append(name).close(),
    "read": lambda folder, name: folder.read(name).close(),
    "remove": lambda folder, name: folder.remove(name),
    "size": lambda folder, name: folder.size(name),
    "sha256": lambda folder, name: folder.sha256(name),
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "victim.txt"
    path.write_text("precious")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "folder").mkdir()
    return Folder(tmp_path / "folder")


def test_what_is_written_is_read_again_with_its_size_and_hash(folder: Folder) -> None:
    with folder.create("a/b/.c.part") as file:
        file.write(b"ab")
    with folder.append("a/b/.c.part") as file:
        file.write(b"c")
    folder.replace("a/b/.c.part", "a/b/c")
    assert (folder.path / "a/b/c").read_bytes() == b"abc"
    assert folder.size("a/b/c") == 3
    assert folder.sha256("a/b/c") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    folder.remove("a/b/c")
    folder.remove("a/b/c")
    assert (folder.size("a/b/c"), folder.sha256("a/b/c")) == (None, "")
    assert folder.size("no/such/folder") is None


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["../elsewhere/victim.txt", "link/victim.txt"])
def test_a_name_that_leads_elsewhere_touches_nothing(
    action: str, name: str, folder: Folder, victim: Path
) -> None:
    (folder.path / "link").symlink_to(victim.parent)
    with pytest.raises(UnsafeName):
        ACTIONS[action](folder, name)
    assert victim.read_text() == "precious"
    assert os.listdir(victim.parent) == ["victim.txt"]


@pytest.mark.parametrize("action", ["append", "read", "size", "sha256"])
def test_a_file_that_is_a_link_is_not_opened(action: str, folder: Folder, victim: Path) -> None:
    (folder.path / "file").symlink_to(victim)
    with pytest.raises(UnsafeName, match="symbolic link"):
        ACTIONS[action](folder, "file")


def test_a_new_file_takes_the_place_of_a_link_and_leaves_its_target(folder: Folder, victim: Path) -> None:
    (folder.path / "file").symlink_to(victim)
    with folder.create("file") as file:
        file.write(b"new")
    assert victim.read_text() == "precious"
    assert (folder.path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("action", ["read", "size", "sha256"])
def test_a_pipe_is_refused_and_not_waited_for(action: str, folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    with pytest.raises(UnsafeName, match="not a regular file"):
        ACTIONS[action](folder, "pipe")


def test_an_error_of_the_file_system_names_the_whole_path(folder: Folder) -> None:
    (folder.path / "a").write_text("a file")
    with pytest.raises(NotADirectoryError) as caught:
        folder.create("a/b")
    assert caught.value.filename == str(folder.path / "a/b")

"""A process's folder goes with it: at once where it ends well, at the next start where it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.jobs.core.node_folder import LOCK, NodeFolder, remove_abandoned

MAKE_AND_WAIT = """
import sys, time
from pathlib import Path
from jobctl.jobs.core.node_folder import NodeFolder

print(NodeFolder("kind-", Path(sys.argv[1])).path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def process(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process, which has made its folder and lives."""
    return subprocess.Popen(
        [sys.executable, "-c", MAKE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_process_leaves_its_folder_until_the_next_one_starts(
    tmp_path: Path, process: subprocess.Popen[str]
) -> None:
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (folder / "file").write_text("x")

    first = NodeFolder("kind-", tmp_path)
    assert folder.is_dir(), "its process lives"
    first.close()

    process.kill()
    process.wait()
    process.stdout.close()
    assert folder.is_dir()
    second = NodeFolder("kind-", tmp_path)
    assert list(tmp_path.iterdir()) == [second.path]
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    uid = os.getuid()
    without_lock = tmp_path / f"kind-{uid}-without"
    without_lock.mkdir()
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / LOCK).touch()
    (tmp_path / f"kind-{uid}-link").symlink_to(target)
    other_kind = tmp_path / f"other-{uid}-x"
    other_kind.mkdir()
    (other_kind / LOCK).touch()

    NodeFolder("kind-", tmp_path).close()
    assert without_lock.is_dir()
    assert (target / LOCK).exists()
    assert other_kind.is_dir()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = NodeFolder("kind-", tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.close()
    folder.close()


def abandoned(place: Path, name: str) -> Path:
    """Make a folder as a killed process leaves it."""
    folder = place / name
    folder.mkdir()
    (folder / LOCK).touch()
    (folder / "file").write_text("x")
    return folder


def test_the_folder_of_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may begin like ours."""
    theirs = abandoned(tmp_path, "kind-7-x")
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    remove_abandoned(tmp_path, "kind-7-")
    assert (theirs / "file").exists()


def test_one_folder_that_cannot_be_looked_at_does_not_stop_the_next(tmp_path: Path) -> None:
    first = abandoned(tmp_path, "kind-1")
    (first / LOCK).unlink()
    (tmp_path / "elsewhere").touch()
    (first / LOCK).symlink_to(tmp_path / "elsewhere")
    second = abandoned(tmp_path, "kind-2")
    remove_abandoned(tmp_path, "kind-")
    assert (first / "file").exists(), "its lock is a link, which nobody follows"
    assert not second.exists()


def test_a_folder_has_its_lock_before_others_can_see_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        # Another process that starts now must not remove it: neither under this name nor under the next one.
        remove_abandoned(tmp_path, path.name)
        seen.append((path / LOCK).is_file())
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    folder = NodeFolder("kind-", tmp_path)
    remove_abandoned(tmp_path, "kind-")
    assert (seen, folder.path.is_dir()) == ([True], True)
    folder.close()


def test_two_folders_of_one_process_are_apart(tmp_path: Path) -> None:
    first = NodeFolder("kind-", tmp_path)
    second = NodeFolder("kind-", tmp_path)
    assert first.path != second.path
    first.close()
    assert second.path.is_dir()
    second.close()

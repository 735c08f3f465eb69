"""Removing a run directory follows no link, and leaves no half of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.removal import remove, size_of


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "kept").write_bytes(b"x" * 10_000)
    run = tmp_path / "run"
    run.mkdir()
    (run / "link").symlink_to(data)
    (run / "file").write_bytes(b"x" * 7)
    assert size_of(run, False) == 7
    remove(run, False)
    assert (data / "kept").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_an_interrupted_removal_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints/step-1").mkdir(parents=True)
    (run / ".checkpoints.removed/step-0").mkdir(parents=True)
    remove(run, True)
    assert list(run.iterdir()) == []
    remove(run, True)
    assert run.is_dir()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 30 bytes, of which its checkpoint has 20."""
    run = tmp_path / "runs" / "r"
    (run / "checkpoints/step-1").mkdir(parents=True)
    (run / "checkpoints/step-1/data").write_bytes(b"x" * 20)
    (run / "run.json").write_bytes(b"x" * 10)
    return run


def test_the_checkpoints_alone_are_counted_and_removed(run: Path) -> None:
    assert (size_of(run, False), size_of(run, True)) == (30, 20)
    remove(run, True)
    assert [path.name for path in run.iterdir()] == ["run.json"]
    assert (size_of(run, False), size_of(run, True)) == (10, 0)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_folder_that_is_a_link_stays_with_all_behind_it(run: Path, checkpoints: bool) -> None:
    folder = run / "checkpoints" if checkpoints else run
    elsewhere = run.parents[1] / "large-disk"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    before = sorted(run.parents[1].rglob("*"))
    with pytest.raises(UserError, match=r"is a symbolic link to .*large-disk; jobctl removes nothing"):
        remove(run, checkpoints)

    assert sorted(run.parents[1].rglob("*")) == before


@pytest.mark.parametrize(("checkpoints", "name"), [(False, ".r.removed"), (True, ".checkpoints.removed")])
def test_a_kill_in_the_middle_leaves_nothing_under_the_old_name(
    run: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: bool, name: str
) -> None:
    folder = run / "checkpoints" if checkpoints else run
    removed: list[Path] = []

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            removed.append(path)
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(run, checkpoints)
    assert removed == [folder.with_name(name)]
    assert not folder.exists()


def test_a_file_that_a_training_removes_meanwhile_does_not_count(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = os.lstat

    def gone(path: str) -> os.stat_result:
        if path.endswith("data"):
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr("jobctl.jobs.runs.removal.os.lstat", gone)
    assert size_of(run, False) == 10


def test_a_removal_that_fails_is_an_error_and_not_silent(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a user would believe that the disk has room again."""

    def refused(path: object, *words: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "unlink", refused)
    with pytest.raises(PermissionError):
        remove(run, False)

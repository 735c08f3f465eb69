"""A copy of a folder that others may write: no link is followed, and one bad file does not end it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobctl.jobs.core import copying
from jobctl.jobs.core.copying import copy_tree
from jobctl.jobs.core.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "logs" / "1").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "logs" / "1" / "rank-00000.log").write_text("step 1")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_files_are_copied_once_and_again_where_they_changed(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (copy_tree(run, out).copied, copy_tree(run, out).copied) == (2, 0)
    (run / "run.json").write_text("{ }")
    assert copy_tree(run, out).copied == 1
    assert (out / "run.json").read_text() == "{ }"
    assert names(out) == ["logs/1/rank-00000.log", "run.json"]


def test_a_link_to_a_home_a_pipe_and_an_endless_depth_are_named_and_left_out(
    run: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("key")
    (run / "metrics").symlink_to(home)
    (run / "file").symlink_to(home / "secret")
    os.mkfifo(run / "pipe")
    (run / "/".join(["deep"] * 40)).mkdir(parents=True)
    result = copy_tree(run, tmp_path / "out")
    assert names(tmp_path / "out") == ["logs/1/rank-00000.log", "run.json"]
    assert (result.files, result.copied) == (2, 2)
    reasons = "\n".join(result.skipped)
    for reason in (
        "'metrics': a symbolic link",
        "'file': a symbolic link",
        "'pipe': not a regular",
        "deeper than",
    ):
        assert reason in reasons
    assert len(result.skipped) == 4


def test_a_link_that_stands_in_the_copy_is_not_written_through(run: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").symlink_to(victim)
    copy_tree(run, tmp_path / "out")
    assert victim.read_text() == "precious"
    assert (tmp_path / "out" / "run.json").read_text() == "{}"


def test_more_files_than_a_run_can_have_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FILES", 1)
    with pytest.raises(UserError, match="more than 1 files"):
        copy_tree(run, tmp_path / "out")


def test_a_copy_has_the_time_of_its_source_and_leaves_no_partial_file(run: Path, tmp_path: Path) -> None:
    os.utime(run / "run.json", ns=(1_000_000_007, 1_700_000_000_123_456_789))
    copy_tree(run, tmp_path / "out")
    assert (tmp_path / "out" / "run.json").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert names(tmp_path / "out") == names(run)


def test_a_file_that_kept_its_size_and_changed_its_bytes_is_copied_again(run: Path, tmp_path: Path) -> None:
    copy_tree(run, tmp_path / "out")
    (run / "run.json").write_text("[]")
    os.utime(run / "run.json", ns=(1, 1_700_000_000_000_000_000))
    assert copy_tree(run, tmp_path / "out").copied == 1
    assert (tmp_path / "out" / "run.json").read_text() == "[]"


def test_a_copy_that_was_cut_off_is_made_whole(run: Path, tmp_path: Path) -> None:
    """A kill leaves a partial file; the next copy writes over it."""
    (tmp_path / "out" / "logs" / "1").mkdir(parents=True)
    (tmp_path / "out" / "logs" / "1" / ".rank-00000.log.part").write_text("ste")
    copy_tree(run, tmp_path / "out")
    assert names(tmp_path / "out") == ["logs/1/rank-00000.log", "run.json"]
    assert (tmp_path / "out" / "logs" / "1" / "rank-00000.log").read_text() == "step 1"


def test_a_folder_and_a_file_that_cannot_be_read_are_named_and_the_others_are_copied(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(folder: Path) -> object:
        if Path(folder).name == "logs":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(copying.os, "scandir", closed)
    result = copy_tree(run, tmp_path / "out")
    assert result.skipped == ["'logs': Permission denied"]
    assert (result.files, names(tmp_path / "out")) == (1, ["run.json"])


def test_a_run_that_is_gone_has_no_file_and_is_named(tmp_path: Path) -> None:
    result = copy_tree(tmp_path / "gone", tmp_path / "out")
    assert (result.files, result.skipped) == (0, ["'.': No such file or directory"])


def test_the_limit_itself_is_not_too_many(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "FILES", 2)
    assert copy_tree(run, tmp_path / "out").files == 2


@pytest.mark.parametrize(
    ("name", "temporary"), [("a", ".a.part"), ("logs/1/a", "logs/1/.a.part"), ("a.part", ".a.part.part")]
)
def test_a_temporary_name_is_in_the_folder_of_its_file(name: str, temporary: str) -> None:
    assert copying.aside(name) == temporary


def test_a_copy_is_on_the_disk_before_it_has_its_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "logs" / "1" / "rank-00000.log").unlink()
    calls: list[str] = []
    replace = os.replace

    def synced(descriptor: int) -> None:
        calls.append(f"sync {os.fstat(descriptor).st_size} bytes")

    def replaced(source: str, target: str, **folders: int) -> None:
        calls.append(f"{source} to {target}")
        replace(source, target, **folders)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    copy_tree(run, tmp_path / "out")
    assert calls == ["sync 2 bytes", ".run.json.part to run.json"]


def test_a_name_that_is_too_long_for_its_copy_is_named_and_left_out(run: Path, tmp_path: Path) -> None:
    """A file may have 255 bytes in its name, and so must its temporary name, which has six more."""
    (run / ("a" * 249)).write_text("fits")
    (run / ("b" * 250)).write_text("does not")
    result = copy_tree(run, tmp_path / "out")
    assert (tmp_path / "out" / ("a" * 249)).read_text() == "fits"
    (reason,) = result.skipped
    assert reason.startswith("'bbb")
    assert reason.endswith("a part of it is longer than 255 bytes")
    assert not (tmp_path / "out" / ("b" * 250)).exists()

"""The root of a site: a folder in which this user can write."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from jobctl.jobs.cli import root_check
from jobctl.jobs.cli.root_check import fault_of
from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.jobs.cli.test_site import cluster
from tests.other_user import told_by_other

__all__ = ["cluster", "jobctl"]


def test_a_folder_that_can_be_written_is_as_before(tmp_path: Path) -> None:
    assert fault_of(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "my data/x") == (
        f"there is no such folder; mkdir -p '{tmp_path}/my data/x' makes it"
    )


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    assert fault_of(tmp_path / name) == f"{tmp_path / 'file'} is not a folder"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk of {} is full"),
        (errno.EDQUOT, "the quota of the disk of {} is used up"),
        (errno.EROFS, "{}: Read-only file system"),
    ],
)
def test_a_disk_that_takes_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    """A quota is seen only by a write."""

    def full(descriptor: int) -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(root_check.os, "fsync", full)
    assert fault_of(tmp_path) == f"nothing can be written there: {said.format(tmp_path)}"


@pytest.fixture
def visible() -> Iterator[Path]:
    """A folder that other users can enter."""
    with tempfile.TemporaryDirectory(prefix="jobctl-root-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_folder_of_another_user_is_said(visible: Path) -> None:
    mine = visible / "mine"
    private = visible / "private"
    mine.mkdir(mode=0o755)
    private.mkdir(mode=0o700)
    assert told_by_other(lambda: fault_of(mine)) == f"you cannot write {mine}"
    assert told_by_other(lambda: fault_of(mine / "x")) == (
        f"there is no such folder; and you cannot write {mine}"
    )
    # Whether it exists cannot be seen.
    assert f"you cannot write {private}" in told_by_other(lambda: fault_of(private / "x"))


@pytest.mark.parametrize("name", ["", "none", "file"])
def test_site_check_fails_for_such_a_root(
    jobctl: Invoke, cluster: None, root: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    site = tmp_path / "mine.yaml"
    site.write_text(f"summary: mine\nsettings:\n  root: {tmp_path / name}\n")
    code, out, err = jobctl("site", "check", "--target", "slurm", "--site", str(site), "--json")
    (row,) = json.loads(out)
    assert (code, row["finding"] == "ok") == ((1, False) if name else (0, True)), err
    assert Path(row["value"]) == tmp_path / name

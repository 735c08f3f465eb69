"""A release of Debian that cannot be had is named, with the reason, and required ones are a failure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clusters import containers, releases
from tests.slurm import test_releases as rows


@pytest.fixture(autouse=True)
def an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "CACHE", tmp_path)
    monkeypatch.setattr(releases, "CACHE", tmp_path)


def test_a_machine_without_mmdebstrap_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(releases.Unavailable, match="apt-get install mmdebstrap"):
        releases.programs_of("trixie")


def test_an_archive_that_does_not_answer_is_said_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "apt-get":
            return subprocess.CompletedProcess(command, 0, "file:/nowhere/ Debian\n", "")

        return subprocess.CompletedProcess(command, 25, "", "I: fine\nE: no such archive\n")

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", answers)
    with pytest.raises(releases.Unavailable, match="Debian trixie cannot be had"):
        releases.programs_of("trixie")
    assert not (tmp_path / "slurm-trixie").exists()


def test_where_slurm_is_required_a_release_is_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBCTL_REQUIRE_SLURM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no archive"):
        rows.skip("no archive")
    monkeypatch.setenv("JOBCTL_REQUIRE_SLURM", "1")
    with pytest.raises(pytest.fail.Exception, match="JOBCTL_REQUIRE_SLURM=1, but: no archive"):
        rows.skip("no archive")

"""A driver that cannot be asked is an error, and not a machine without GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.driver import DriverSilent, query


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, first on the PATH; this machine's own nvidia-smi is not on it."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def nvidia_smi(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_each_gpu_is_a_line(folder: Path) -> None:
    nvidia_smi(folder, 'echo "$1 $2"; echo; echo "0, B200"')
    lines = ["--query-gpu=index,name --format=csv,noheader,nounits", "0, B200"]
    assert query(["index", "name"]) == lines


def test_a_machine_without_driver_and_devices_has_no_gpu(folder: Path, tmp_path: Path) -> None:
    assert query(["name"], devices=tmp_path) == []


def test_a_gpu_without_a_program_to_ask_for_it_is_an_error(folder: Path, tmp_path: Path) -> None:
    """As in a container that was given the GPUs, but not the driver's programs."""
    for name in ("nvidiactl", "nvidia1", "nvidia0"):
        (tmp_path / name).touch()
    with pytest.raises(DriverSilent, match=r"has nvidia0, but this machine has no nvidia-smi"):
        query(["name"], devices=tmp_path)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'has failed: no driver' >&2; exit 9", "failed with exit code 9: has failed: no driver"),
        ("echo 'No devices were found'; exit 6", "failed with exit code 6: No devices were found"),
        ("exec /bin/sleep 60", "does not answer: .*timed out"),
    ],
)
def test_a_driver_that_does_not_answer_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr("jobctl.jobs.core.driver.SECONDS", 1)
    nvidia_smi(folder, script)
    with pytest.raises(DriverSilent, match=f"nvidia-smi {reason}"):
        query(["name"])

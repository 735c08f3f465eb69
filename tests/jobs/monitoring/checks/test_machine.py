"""Checks of a machine, each with its fault."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.checks import machine
from jobctl.jobs.monitoring.checks.machine import Gpu, MachineFacts, ask_gpus, examine, measured_rate
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve

GIB = 1 << 30
Usage = namedtuple("Usage", "total used free")


def gpu(**changes: Any) -> Gpu:
    facts = {"name": "NVIDIA H200", "driver": "580.95.05", "memory_total": 143_771.0, "memory_used": 4.0}
    return Gpu(**{**facts, "temperature": 35.0, "uncorrected_errors": 0.0, **changes})


def spec(root: Path, **choices: Any) -> JobSpec:
    options = {"model": "qwen3_1.8b", "hardware": "h200", **choices}
    return resolve(Choices(**options), version="0.0.0", root=str(root)).spec


def told(facts: MachineFacts) -> list[str]:
    return [finding.check for finding in examine(facts)]


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with room, whatever this one has."""
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(500 * GIB, 0, 400 * GIB))
    monkeypatch.setattr(machine, "measured_rate", lambda folder: 900.0)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (1024, 1_048_576))


def test_a_good_machine_raises_no_alarm(tmp_path: Path) -> None:
    facts = MachineFacts(
        root=tmp_path, spec=spec(tmp_path, target="local"), gpus=(gpu(), gpu()), inputs=lambda job: None
    )
    assert told(facts) == []


@pytest.mark.parametrize(
    ("gpus", "check"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "driver_broken"),
        ((gpu(driver="535.104.05"),), "driver_too_old"),
        ((gpu(), gpu(memory_used=60_000.0)), "gpu_in_use"),
        ((gpu(temperature=93.0),), "gpu_ill"),
        ((gpu(uncorrected_errors=2.0),), "gpu_ill"),
    ],
)
def test_a_gpu_that_is_not_well(tmp_path: Path, gpus: Any, check: str) -> None:
    assert told(MachineFacts(root=tmp_path, spec=spec(tmp_path, target="local"), gpus=gpus)) == [check]


def test_little_room_and_slow_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm = tmp_path / "shm"
    usage = {tmp_path: Usage(30 * GIB, 0, 5 * GIB), shm: Usage(GIB, 0, GIB // 16)}
    monkeypatch.setattr(machine.shutil, "disk_usage", usage.__getitem__)
    monkeypatch.setattr(machine, "measured_rate", lambda folder: 20.0)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (256, 1024))
    facts = MachineFacts(root=tmp_path / "not/yet", shm=shm)
    assert told(facts) == ["shared_memory_small", "disk_small", "disk_slow", "few_open_files"]


def test_a_root_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    assert told(MachineFacts(root=tmp_path)) == ["root_not_writable"]


def test_missing_programs_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def absent(job: JobSpec) -> None:
        raise UserError("no data set in /x", hint="make it")

    facts = MachineFacts(root=tmp_path, spec=spec(tmp_path, target="slurm"), inputs=absent)
    findings = examine(facts)
    assert [finding.check for finding in findings] == ["commands_missing", "inputs"]
    assert findings[0].evidence == "not on the PATH: sbatch, squeue, scontrol"
    assert (findings[1].evidence, findings[1].remedy) == ("no data set in /x", "make it")


def test_the_driver_is_asked_as_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA H200, 580.95.05, 143771, 4, 31, 0'\necho 'A6000, 550.1, 49140, 2, 40, [N/A]'\n"
    )
    program.chmod(0o755)
    gpus = ask_gpus()
    assert gpus == (
        gpu(temperature=31.0),
        Gpu(
            name="A6000",
            driver="550.1",
            memory_total=49140,
            memory_used=2,
            temperature=40,
            uncorrected_errors=0,
        ),
    )
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert ask_gpus() == "nvidia-smi failed with exit code 9: Failed to initialize NVML"


def test_a_rate_is_measured_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_rate(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("well", "ill", "check"),
    [
        (gpu(driver="580.1"), gpu(driver="579.99"), "driver_too_old"),
        (
            gpu(memory_total=1000.0, memory_used=50.0),
            gpu(memory_total=1000.0, memory_used=51.0),
            "gpu_in_use",
        ),
        (gpu(temperature=87.0), gpu(temperature=88.0), "gpu_ill"),
    ],
)
def test_the_bounds_of_a_gpu(tmp_path: Path, well: Gpu, ill: Gpu, check: str) -> None:
    job = spec(tmp_path, target="local")
    assert told(MachineFacts(root=tmp_path, spec=job, gpus=(well,))) == []
    assert told(MachineFacts(root=tmp_path, spec=job, gpus=(ill,))) == [check]


def test_a_driver_is_judged_only_for_an_image_that_has_a_bound(tmp_path: Path) -> None:
    assert told(MachineFacts(root=tmp_path, gpus=(gpu(driver="100.0"),))) == []


@pytest.mark.parametrize(
    ("free", "checks"), [(20 * GIB, []), (20 * GIB - (1 << 20), ["disk_small"]), (255 << 20, ["disk_small"])]
)
def test_a_disk_with_little_room_is_named_and_not_filled_by_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, checks: list[str]
) -> None:
    shm = tmp_path / "shm"
    usage = {tmp_path: Usage(500 * GIB, 0, free), shm: Usage(500 * GIB, 0, GIB)}
    monkeypatch.setattr(machine.shutil, "disk_usage", usage.__getitem__)
    probed: list[Path] = []
    monkeypatch.setattr(machine, "measured_rate", lambda folder: probed.append(folder) or 100.0)
    assert told(MachineFacts(root=tmp_path, shm=shm)) == checks
    assert len(probed) == (1 if free >= 256 << 20 else 0)


def test_a_machine_without_shared_memory_has_none_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: Path) -> Usage:
        if path.name == "shm":
            raise FileNotFoundError(path)
        return Usage(500 * GIB, 0, 400 * GIB)

    monkeypatch.setattr(machine.shutil, "disk_usage", usage)
    (finding,) = examine(MachineFacts(root=tmp_path, shm=tmp_path / "shm"))
    assert finding.evidence == f"0.00 GiB free in {tmp_path}/shm"


@pytest.mark.parametrize(("hard", "checks"), [(4096, []), (4095, ["few_open_files"]), (-1, [])])
def test_the_limit_of_open_files_that_a_process_can_reach_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: int, checks: list[str]
) -> None:
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (16, hard))
    assert told(MachineFacts(root=tmp_path)) == checks


@pytest.mark.parametrize(
    "line", ["No devices were found", "Unable to determine the device handle: GPU is lost"]
)
def test_a_line_of_the_driver_that_is_no_gpu_is_reported(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    lines = ["NVIDIA H200, 580.95.05, 143771, 4, 31, 0", line]
    monkeypatch.setattr(machine, "query", lambda names: lines)
    assert ask_gpus() == f"nvidia-smi answers {line!r}"


def test_the_name_of_a_gpu_may_have_a_comma(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "query", lambda names: ["Some, GPU, 580.95.05, 143771, 4, 31, 0"])
    gpus = ask_gpus()
    assert isinstance(gpus, tuple)
    assert [(each.name, each.driver) for each in gpus] == [("Some, GPU", "580.95.05")]


def test_the_root_is_looked_for_upwards_and_the_search_ends_at_the_top() -> None:
    assert machine.existing(Path("/absent/on/every/machine")) == Path("/")


def test_a_probe_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine, "PROBE_BYTES", 1 << 20)
    monkeypatch.setattr(machine.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        measured_rate(tmp_path)
    assert list(tmp_path.iterdir()) == []

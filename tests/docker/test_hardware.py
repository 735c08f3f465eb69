"""What the image's entry point says of the machine that it runs on: "could not ask" is not "there is none"."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jobctl.docker import hardware
from jobctl.jobs.core.driver import query
from jobctl.jobs.core.errors import UserError

ENTRYPOINT = Path(__file__).parents[2] / "docker/entrypoint"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, first on the PATH; this machine's own nvidia-smi is not on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    return folder


def nvidia_smi(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_a_machine_without_a_driver_has_no_gpu(programs: Path) -> None:
    assert query(["name"], devices=programs) == []
    assert hardware.options([]) == ["--hardware=cpu"]


def test_gpus_of_the_catalogue_become_its_hardware(programs: Path) -> None:
    nvidia_smi(programs, "echo 'NVIDIA H200'; echo 'NVIDIA H200'")
    assert hardware.options(query(["name"])) == ["--hardware=h200", "--gpus-per-node=2"]


@pytest.mark.parametrize("name", ["NVIDIA GH200 480GB", "NVIDIA L40S"])
def test_a_gpu_that_the_catalogue_does_not_know_is_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"does not know the GPU {name}\n.*h200"):
        hardware.options([name])


def test_several_kinds_of_gpus_are_refused() -> None:
    with pytest.raises(UserError, match="several kinds of GPUs: NVIDIA A100, NVIDIA H100"):
        hardware.options(["NVIDIA H100", "NVIDIA A100", "NVIDIA H100"])


def test_the_entry_point_ends_where_the_hardware_cannot_be_asked(programs: Path) -> None:
    python = programs / "python3"
    python.write_text(
        "#!/bin/sh\necho 'jobctl.docker.hardware: nvidia-smi failed with exit code 9' >&2\nexit 1\n"
    )
    python.chmod(0o755)
    jobctl = programs / "jobctl"
    jobctl.write_text("#!/bin/sh\necho 'echo a job was begun'\n")
    jobctl.chmod(0o755)

    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(programs), "JOBCTL_ROOT": str(programs)}
    done = subprocess.run(
        ["bash", str(ENTRYPOINT), "preflight"], env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert "nvidia-smi failed with exit code 9" in done.stderr
    assert "a job was begun" not in done.stdout


def test_ps_does_not_show_the_job(programs: Path) -> None:
    """What others on the machine see of the process is how it was called."""
    script = "marker=in-the-script; tr '\\0' ' ' </proc/$$/cmdline; exit 7"
    (programs / "jobctl").write_text(f"#!/bin/sh\ncat <<'EOF'\n{script}\nEOF\n")
    (programs / "jobctl").chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(programs), "JOBCTL_ROOT": str(programs)}
    done = subprocess.run(
        ["bash", str(ENTRYPOINT), "train", "--model", "x"],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.startswith("bash ")
    assert "marker" not in done.stdout

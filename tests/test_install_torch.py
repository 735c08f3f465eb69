"""Which build of torch ``make demo`` installs: on a machine without a GPU, no gigabytes of CUDA."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from jobctl.docker import lock

SCRIPT = Path(__file__).parents[1] / "requirements/install-torch.sh"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def installed(
    folder: Path, *options: str, gpu: bool = False, version: str = "2.13.0+cpu", pip: str = "true"
) -> str:
    """Run the script with stand-ins for pip, Python and nvidia-smi; return what pip was asked for, a line a call."""
    programs = {
        "bin/pip": f'echo "$*" >>"{folder}/calls"; {pip}',
        "bin/python": f'case "{version}" in *+cpu) exit 1 ;; esac',
        "path/nvidia-smi": f"exit {0 if gpu else 9}",
    }
    for name, text in programs.items():
        program = folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    subprocess.run(
        [SCRIPT, folder, *options],
        env={"PATH": f"{folder}/path:/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    return (folder / "calls").read_text()


def test_a_machine_without_a_gpu_takes_the_cpu_build(tmp_path: Path) -> None:
    download, install = installed(tmp_path).splitlines()
    assert f"--index-url {CPU_INDEX}" in download
    assert re.search(r" torch==[\d.]+$", download)
    assert "--require-hashes --no-index" in install
    assert "locked-torch.txt" in install


@pytest.mark.parametrize("failing", ["download", "install"])
def test_where_that_index_has_none_the_package_index_is_asked(tmp_path: Path, failing: str) -> None:
    """It cannot be reached, or its build for this Python has a hash that nobody knows."""
    once = f'case " $* " in *" {failing} "*) [ -e "{tmp_path}/once" ] || {{ touch "{tmp_path}/once"; exit 1; }} ;; esac'
    calls = installed(tmp_path, version="2.13.0", pip=once).splitlines()
    assert [line for line in calls if CPU_INDEX in line] == calls[:1]
    assert "locked-torch.txt" in calls[-2]
    assert "locked-cuda.txt" in calls[-1]


def test_a_machine_with_a_gpu_takes_the_build_for_cuda(tmp_path: Path) -> None:
    calls = installed(tmp_path, gpu=True, version="2.13.0")
    assert CPU_INDEX not in calls
    assert "locked-cuda.txt" in calls


def test_the_users_options_are_the_only_ones(tmp_path: Path) -> None:
    calls = installed(tmp_path, "--index-url", "https://mirror.example/cpu")
    assert "--index-url https://mirror.example/cpu" in calls
    assert CPU_INDEX not in calls
    assert "locked-cuda.txt" not in calls


def test_the_installed_packages_are_checked_by_hash(tmp_path: Path) -> None:
    calls = installed(tmp_path, gpu=True, version="2.13.0").splitlines()
    assert all("--require-hashes" in call for call in calls if " install " in call)


def test_every_cpu_build_is_in_the_list_by_which_pip_checks() -> None:
    builds = lock.cpu_builds()
    hashes = set(re.findall("sha256:([0-9a-f]{64})", lock.LOCKED_TORCH.read_text()))
    assert set(builds.values()) <= hashes
    pythons = {re.search(r"-cp(\d+)-", file)[1] for file in builds if file.endswith("x86_64.whl")}  # type: ignore[index]
    assert {"311", "312", "313"} <= pythons

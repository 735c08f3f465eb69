"""What a node must have before the image starts there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.render import shell_functions
from jobctl.slurm.containers import node_checks
from jobctl.slurm.script import render
from tests.slurm.test_script import GPU, spec_of

FILES = ("exit_codes", "supervise", "cdi", "slurm/limits", "slurm/nodes")


def started(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a node does with ``command`` as its task, in a job that looks for CDI."""
    text = (
        "EXIT_USAGE=2; EXIT_CONTINUE=200; EXIT_HARDWARE=201; EXIT_FAILED=1; EXIT_TERMINATED=143\n"
        "JOB_LAST_WORDS_SECONDS=0; JOB_NODE_NAME=slurm; JOB_NODE_CHECKS=(check_cdi)\n"
        "JOB_OPEN_FILES=0; JOB_CORE_KIB=0; SLURMD_NODENAME=n1\n"
        f"{shell_functions(*FILES)}\ntask {folder} n1 1 {command}"
    )
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)


def test_only_podman_with_gpus_needs_a_cdi_file() -> None:
    assert node_checks(spec_of("container.runtime=podman", **GPU)) == ["check_cdi"]
    assert node_checks(spec_of("container.runtime=podman")) == []
    assert node_checks(spec_of("container.runtime=docker", **GPU)) == []


def test_the_script_has_each_check_that_it_names() -> None:
    assert "\ncheck_cdi() {" in render(spec_of("container.runtime=podman", **GPU))
    assert "check_cdi" not in render(spec_of(**GPU))


def test_a_node_without_a_cdi_file_is_named_and_starts_nothing(tmp_path: Path) -> None:
    done = started(tmp_path, f"touch {tmp_path}/started", JOBCTL_CDI_DIRS=str(tmp_path / "absent"))

    assert done.returncode == 2
    assert "jobctl: n1: podman has no CDI file for NVIDIA's GPUs in" in done.stderr
    assert "sudo nvidia-ctk cdi generate" in done.stderr
    assert (tmp_path / "bad-nodes").read_text().startswith("n1\tpodman has no CDI file")
    assert (tmp_path / "exit-n1").read_text() == "2\n", (
        "the batch script takes a node without a code for dead"
    )
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["nvidia.yaml", "nvidia.json"])
def test_a_node_with_a_cdi_file_starts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('kind: "nvidia.com/gpu"\n')
    done = started(tmp_path, f"touch {tmp_path}/started", JOBCTL_CDI_DIRS=str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "started").exists()
    assert not (tmp_path / "bad-nodes").exists()

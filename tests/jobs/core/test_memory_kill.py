"""A process that the kernel killed for memory is named with the limit that it met."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core import memory_kill
from jobctl.jobs.core.memory_kill import watch

GIB = 2**30
ADVICE = "fewer --workers"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A Slurm step's group of version 2: the limit is the job's, two groups above."""
    step = tmp_path / "cgroup/slurm/job_7/step_0"
    step.mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/slurm/job_7/step_0\n")
    (step.parent / "memory.max").write_text(f"{3 * GIB // 2}\n")
    (step / "memory.max").write_text("max\n")
    kill(step, 1)
    return step


def kill(group: Path, times: int) -> None:
    (group / "memory.events").write_text(f"low 0\noom 9\noom_kill {times}\noom_group_kill 0\n")


def test_a_kill_is_reported_with_the_smallest_limit_around(group: Path, tmp_path: Path) -> None:
    memory = watch(tmp_path / "membership", tmp_path / "cgroup")
    kill(group, 2)
    assert memory.report(ADVICE).startswith(
        "error: the kernel killed 1 process of this job for memory: its limit is 1.50 GiB; give the job more memory"
    )


def test_kills_of_an_earlier_time_are_not_reported(group: Path, tmp_path: Path) -> None:
    assert watch(tmp_path / "membership", tmp_path / "cgroup").report(ADVICE) == ""


def test_without_a_limit_the_node_ran_out(group: Path, tmp_path: Path) -> None:
    (group.parent / "memory.max").write_text("max\n")
    memory = watch(tmp_path / "membership", tmp_path / "cgroup")
    kill(group, 3)
    assert (
        "killed 2 processes of this job for memory: no limit is set, so the node itself ran out"
        in memory.report(ADVICE)
    )


def test_a_container_that_sees_a_path_of_its_host_looks_at_its_own_group(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    root.mkdir()
    (tmp_path / "membership").write_text("0::/../../docker/0123\n")
    (root / "memory.max").write_text(f"{GIB}\n")
    kill(root, 0)
    memory = watch(tmp_path / "membership", root)
    kill(root, 1)
    assert "its limit is 1.00 GiB" in memory.report(ADVICE)


def test_version_1_has_other_files(tmp_path: Path) -> None:
    group = tmp_path / "cgroup/memory/job"
    group.mkdir(parents=True)
    (tmp_path / "membership").write_text("5:cpu,cpuacct:/other\n4:memory:/job\n0::/job\n")
    (group / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (group.parent / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    memory = watch(tmp_path / "membership", tmp_path / "cgroup")
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert "its limit is 2.00 GiB" in memory.report(ADVICE)


def test_where_nothing_counts_nothing_is_said(tmp_path: Path) -> None:
    assert watch(tmp_path / "absent", tmp_path).report(ADVICE) == ""


def test_this_machine_can_be_watched() -> None:
    assert memory_kill.watch().report(ADVICE) == ""

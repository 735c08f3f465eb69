"""The bound is the tightest of the node's memory and the control groups above the process."""

from pathlib import Path

import pytest

from jobctl.trainer.checkpoint.host_memory import SHARE, budget, free_bytes

GIB = 1 << 30


def node(root: Path, available: int, group: str = "0::/job/step\n") -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {available // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(group)


def unified(root: Path, group: str, limit: str, used: int, cache: int = 0) -> None:
    """A group of version 2."""
    folder = root / "sys/fs/cgroup" / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


def older(root: Path, group: str, limit: int, used: int, cache: int = 0) -> None:
    """A group of version 1."""
    folder = root / "sys/fs/cgroup/memory" / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {cache}\n")


def test_without_a_limit_the_node_decides(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB)
    unified(tmp_path, "job/step", "max", 9 * GIB)
    assert free_bytes(tmp_path) == 64 * GIB


def test_a_limit_counts_and_its_page_cache_does_not(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB)
    unified(tmp_path, "job/step", str(20 * GIB), 12 * GIB, cache=4 * GIB)
    assert free_bytes(tmp_path) == 12 * GIB


def test_the_limit_of_a_group_above_counts_too(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB)
    unified(tmp_path, "job/step", "max", 0)
    unified(tmp_path, "job", str(8 * GIB), 2 * GIB)
    unified(tmp_path, "", str(32 * GIB), 0)
    assert free_bytes(tmp_path) == 6 * GIB


def test_in_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB, "0::/../../system.slice/container\n")
    unified(tmp_path, "", str(10 * GIB), GIB)
    assert free_bytes(tmp_path) in (9 * GIB, 64 * GIB)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    assert free_bytes(tmp_path) == 9 * GIB


def test_groups_of_version_1(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB, "4:cpu,cpuacct:/x\n3:hugetlb,memory:/docker/abc\n1:name=systemd:/x\n")
    older(tmp_path, "docker/abc", 16 * GIB, 10 * GIB, cache=GIB)
    assert free_bytes(tmp_path) == 7 * GIB


def test_a_version_1_mount_inside_a_container(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB, "3:memory:/docker/abc\n")
    older(tmp_path, "", 16 * GIB, 10 * GIB)
    assert free_bytes(tmp_path) == 6 * GIB


def test_used_beyond_the_limit_is_nothing_left(tmp_path: Path) -> None:
    node(tmp_path, 64 * GIB)
    unified(tmp_path, "job/step", str(GIB), 2 * GIB)
    assert free_bytes(tmp_path) == 0


def test_unknown_memory_is_none(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == 0


def test_the_ranks_of_a_node_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node(tmp_path, 64 * GIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert budget(tmp_path) == int(64 * GIB * SHARE) // 8

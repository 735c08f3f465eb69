"""This machine as a test cluster uses it: a slot of its ports, its control groups, its processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from pathlib import Path
from typing import IO

from tests.clusters import slurm_conf

CGROUPS = Path("/sys/fs/cgroup")
SLOTS = Path("/tmp")
PREFIX = "jobctl-slurm-"


def claim_slot(directory: Path) -> tuple[int, IO[str]]:
    """A number no other cluster of this machine has, as long as the file stays open; its ports are free.

    The file names the cluster's directory; so whoever comes next removes what killed ones have left.
    """
    claimed: tuple[int, IO[str]] | None = None
    for slot in range(64):
        lock = (SLOTS / f"{PREFIX}slot-{slot}.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        lock.seek(0)
        left = Path(lock.read())
        if left.parent == SLOTS and left.name.startswith(PREFIX):
            remove(left)
        lock.truncate(0)
        first = slurm_conf.first_port(slot)
        if claimed is None and all(_is_free(port) for port in range(first, first + slurm_conf.PORTS)):
            lock.write(str(directory))
            lock.flush()
            claimed = slot, lock
        else:
            lock.close()
    if claimed:
        return claimed
    raise RuntimeError(f"no {slurm_conf.PORTS} free ports from {slurm_conf.first_port(0)} on")


def remove(directory: Path) -> None:
    """The files and the control groups of a cluster whose processes have ended."""
    for hierarchy in cgroup_hierarchies():
        for folder, _, _ in os.walk(hierarchy / directory.name, topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:  # its last process is still going
                    time.sleep(0.02)
    shutil.rmtree(directory, ignore_errors=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def cgroup_hierarchies() -> list[Path]:
    """The writable v1 hierarchies that Slurm's process tracking uses; none on a machine with v2 only."""
    found = [CGROUPS / name for name in ("freezer", "cpuset", "memory", "devices", "cpuacct")]
    return (
        [h for h in found if os.access(h / "cgroup.procs", os.W_OK)] if os.access(found[0], os.W_OK) else []
    )


def process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def process_text(pid: int) -> str:
    """A process's command line and its environment, each part ended by a NUL; empty once it has gone."""
    return text_of(Path(f"/proc/{pid}/cmdline")) + text_of(Path(f"/proc/{pid}/environ"))


def host_of(pid: int) -> str:
    """Which host name a process lives under: each node has a namespace for its own."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def children_of(parent: int) -> list[int]:
    """Return the processes that ``parent`` has started."""
    stats = ((pid, text_of(Path(f"/proc/{pid}/stat"))) for pid in process_ids())
    # The name of a program stands in brackets and may hold anything; the parent is the second word after it.
    return [pid for pid, text in stats if text.rpartition(")")[2].split()[1:2] == [str(parent)]]

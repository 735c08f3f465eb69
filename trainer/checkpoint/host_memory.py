"""How much host memory checkpoints may keep: what is free on the node, and what the container may still use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

SHARE = 0.5
"""Of what is free: as much again is for the page cache, through which the files are written."""


def budget(root: Path = Path("/")) -> int:
    """Bytes that this rank may keep for its copies; the ranks of a node share alike.

    ``ulimit -l`` is no bound: the driver of the GPU pins memory for a process without asking for it. Where
    a driver does refuse, the saves go in chunks.
    """
    return int(free_bytes(root) * SHARE) // ranks_of_node()


def ranks_of_node() -> int:
    """Ranks that torchrun has started on this node."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def free_bytes(root: Path = Path("/")) -> int:
    """Bytes that the node has available, and that no control group above this process forbids."""
    bounds = [node_bytes(root), *group_bytes(root)]
    return max(0, min(bounds))


def node_bytes(root: Path) -> int:
    """``MemAvailable``, which counts page cache that can be given back; 0 where there is no such file."""
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return 0

    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def group_bytes(root: Path) -> Iterator[int]:
    """What each control group of this process still allows, for those that have a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return

    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root / "sys/fs/cgroup"
            files = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue

        # In a container the path may be the host's, and the mount already the container's own group.
        folder = base / path.lstrip("/")

        for group in (folder, *folder.parents):
            if group != base and base not in group.parents:
                break

            yield from rest_of_group(group, *files)


def rest_of_group(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Bytes up to the group's limit, page cache not counted as used; nothing where it has no limit."""
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        statistics = (group / "memory.stat").read_text()
    except (OSError, ValueError):
        return

    if most.isdigit():
        match = re.search(rf"^{cache} (\d+)$", statistics, re.MULTILINE)
        yield int(most) - used + (int(match[1]) if match else 0)

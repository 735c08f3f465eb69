"""Find out how much host memory checkpoints may keep: the free memory of the node and of the container."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

SHARE = 0.5
"""The share of the free memory. The other half is for the page cache, through which the files are written."""


def budget(root: Path = Path("/")) -> int:
    """Return the bytes that this rank may keep for its copies. All ranks of a node get the same share.

    ``ulimit -l`` is no limit here, because the GPU's driver pins memory without it. If a driver refuses, the
    saves are made in chunks.
    """
    return int(free_bytes(root) * SHARE) // ranks_of_node()


def ranks_of_node() -> int:
    """Return the number of ranks that torchrun has started on this node."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def free_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that the node has available and that every control group of this process allows."""
    bounds = [node_bytes(root), *group_bytes(root)]
    return max(0, min(bounds))


def node_bytes(root: Path) -> int:
    """Return ``MemAvailable``, which counts page cache that can be given back.

    Return 0 without such a file.
    """
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return 0

    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def group_bytes(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group of this process still allows. Skip groups without a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return

    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 of control groups has no list of controllers.
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

        # The groups above limit this process too.
        for group in (folder, *folder.parents):
            if group != base and base not in group.parents:
                break

            yield from rest_of_group(group, *files)


def rest_of_group(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Yield the bytes up to the group's limit, or nothing without a limit.

    Page cache does not count as used.
    """
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        statistics = (group / "memory.stat").read_text()
    except (OSError, ValueError):
        return

    if most.isdigit():
        match = re.search(rf"^{cache} (\d+)$", statistics, re.MULTILINE)
        yield int(most) - used + (int(match[1]) if match else 0)

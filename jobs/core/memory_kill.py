"""Find out whether the kernel killed a process of this job for memory, and which limit was reached.

The counters belong to this process's control group: ``oom_kill`` in ``memory.events`` (version 2) or in
``memory.oom_control`` (version 1). The limit may belong to a group that contains it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

GIB = 2**30
NO_LIMIT = 2**60
"""Version 1 writes a number near 2**63 if no limit is set. No machine has this much memory."""
COUNTERS = ("memory.events", "memory.oom_control")
LIMITS = ("memory.max", "memory.limit_in_bytes")


class MemoryWatch(NamedTuple):
    """The control group of this process, and the number of its memory kills when the watch began."""

    folder: Path
    root: Path
    kills_before: int

    def report(self, advice: str) -> str:
        """Return one line if processes were killed for memory since the watch began. Otherwise return "".

        ``advice`` names a way to use less memory.
        """
        kills = kills_in(self.folder) - self.kills_before
        if kills <= 0:
            return ""

        limit = smallest_limit(self.folder, self.root)
        # The kernel does not say which limit was reached. The smallest one is the likeliest.
        reason = (
            f"its limit is {limit / GIB:.2f} GiB" if limit else "no limit is set, so the node itself ran out"
        )

        return (
            f"error: the kernel killed {kills} process{'es' if kills > 1 else ''} of this job for memory: {reason}; "
            f"give the job more memory, or use {advice}\n"
        )


def watch(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> MemoryWatch:
    """Begin to watch the control group of this process. Without one, the watch reports nothing."""
    folder, base = locate(_text(membership), root)
    return MemoryWatch(folder, base, kills_in(folder))


def locate(membership: str, root: Path) -> tuple[Path, Path]:
    """Return the folder of the group that counts memory, and the top of its hierarchy.

    ``membership`` is the text of ``/proc/self/cgroup``. A container may show paths of its host that it cannot
    open. Then the group of the container is the top of the hierarchy that it sees.
    """
    path = ""
    top = root
    for line in membership.splitlines():
        _, controllers, name = line.split(":", 2)
        # Version 1 has one hierarchy for each controller, and a machine may have both versions. Take the one
        # that counts memory.
        if "memory" in controllers.split(","):
            path = name
            top = root / "memory"
            break

        # Version 2 names no controllers.
        if not controllers:
            path = name

    folder = top / path.lstrip("/")

    return (folder if ".." not in folder.parts and folder.is_dir() else top), top


def kills_in(folder: Path) -> int:
    """Return the number of processes of the group that were killed for memory; 0 if it is unknown."""
    for name in COUNTERS:
        for line in _text(folder / name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)

    return 0


def smallest_limit(folder: Path, root: Path) -> int:
    """Return the smallest limit of the group and of the groups around it, in bytes; 0 if no limit is set."""
    groups = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    texts = [_text(group / name).strip() for group in groups for name in LIMITS]
    # Version 2 writes "max" if no limit is set. That is not a number.
    limits = [int(text) for text in texts if text.isdigit()]
    return min((limit for limit in limits if limit < NO_LIMIT), default=0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

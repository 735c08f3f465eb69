"""Whether the kernel killed a process of this job for memory, and which limit it met.

The counters are those of this process's control group: ``oom_kill`` in ``memory.events`` (version 2) or in
``memory.oom_control`` (version 1). The limit may be one of a group around it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

GIB = 2**30
NO_LIMIT = 2**60
"""Version 1 says so with a number about as large as it can be."""
COUNTERS = ("memory.events", "memory.oom_control")
LIMITS = ("memory.max", "memory.limit_in_bytes")


class MemoryWatch(NamedTuple):
    """The control group of this process, and how many of its processes had been killed for memory before."""

    folder: Path
    root: Path
    kills_before: int

    def report(self, advice: str) -> str:
        """Return one line where processes have been killed for memory since, else nothing.

        ``advice`` says what takes less memory.
        """
        kills = kills_in(self.folder) - self.kills_before
        if kills <= 0:
            return ""

        limit = smallest_limit(self.folder, self.root)
        reason = (
            f"its limit is {limit / GIB:.2f} GiB" if limit else "no limit is set, so the node itself ran out"
        )

        return (
            f"error: the kernel killed {kills} process{'es' if kills > 1 else ''} of this job for memory: {reason}; "
            f"give the job more memory, or take {advice}\n"
        )


def watch(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> MemoryWatch:
    """Begin to watch this process's control group. Where there is none, the watch reports nothing."""
    folder, base = locate(_text(membership), root)
    return MemoryWatch(folder, base, kills_in(folder))


def locate(membership: str, root: Path) -> tuple[Path, Path]:
    """Return the folder of the group that counts memory, and the top of its hierarchy.

    ``membership`` is the text of ``/proc/self/cgroup``. A container may show paths of its host, which it cannot see:
    its own group is then the top.
    """
    path = ""
    top = root
    for line in membership.splitlines():
        _, controllers, name = line.split(":", 2)
        if "memory" in controllers.split(","):
            path = name
            top = root / "memory"
            break

        if not controllers:
            path = name

    folder = top / path.lstrip("/")

    return (folder if ".." not in folder.parts and folder.is_dir() else top), top


def kills_in(folder: Path) -> int:
    """Return how many processes of the group have been killed for memory; 0 where it does not say."""
    for name in COUNTERS:
        for line in _text(folder / name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)

    return 0


def smallest_limit(folder: Path, root: Path) -> int:
    """Return the smallest limit in bytes of the group and of those around it; 0 where there is none."""
    groups = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    texts = [_text(group / name).strip() for group in groups for name in LIMITS]
    limits = [int(text) for text in texts if text.isdigit()]
    return min((limit for limit in limits if limit < NO_LIMIT), default=0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

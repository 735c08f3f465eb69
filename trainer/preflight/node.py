"""The state of one node: GPUs and their health, memory, disks, and its clock. Nothing here needs torch."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.driver import DriverSilent, query
from jobctl.trainer import compilers

GIB = 2**30
QUERY_SECONDS = 30
FIELDS = (
    "index",
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "compute_cap",
    "ecc.errors.uncorrected.volatile.total",
    "remapped_rows.pending",
    "remapped_rows.failure",
)
BASIC = FIELDS[:5]
"""Fields that every driver knows."""
HARDWARE_XIDS = frozenset({46, 48, 62, 64, 74, 79, 92, 95, 110, 119, 120, 136, 140, 143, 145, 149, 154})
"""Xids that a program cannot cause: memory beyond repair, a link or a GPU that is gone, its processors hung."""
XID_SECONDS = 24 * 3600
"""Older ones have been seen to, or the GPU has been reset since."""
_XID = re.compile(r"\[\s*(\d+)\.\d+\].*NVRM: Xid \(([^)]*)\): (\d+)")


class Gpu(msgspec.Struct, frozen=True):
    """One GPU as the driver reports it; None if it does not report a field."""

    index: int
    name: str
    driver: str
    memory_mib: float | None = None
    used_mib: float | None = None
    compute_capability: str = ""
    uncorrected_errors: float | None = None
    remapping_pending: bool = False
    remapping_failed: bool = False


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """The report of one node in the shared volume."""

    name: str
    clock: float
    """Seconds since 1970, by its own clock when it wrote."""
    gpus: tuple[Gpu, ...] = ()
    unanswered: str = ""
    """The reason why the driver did not answer; empty if it did."""
    xids: tuple[str, ...] | None = ()
    """None if the kernel's log may not be read."""
    memory_gib: float = 0.0
    """Free for programs."""
    shm_gib: float = 0.0
    tmp_gib: float = 0.0
    root_gib: float = 0.0
    locked_memory: int | None = None
    """Bytes that may be pinned; None for no limit."""
    kernels_lack: str = ""
    """The tool that is missing to compile a GPU's kernels; empty if nothing is missing."""


def look(name: str, run_dir: Path, clock: float) -> Node:
    """Return this node's report. Raises OSError if the shared volume does not answer."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    gpus, unanswered = ask_driver()
    log = kernel_log()

    return Node(
        name=name,
        clock=clock,
        gpus=gpus,
        unanswered=unanswered,
        xids=None if log is None else parse_xids(log, _uptime()),
        memory_gib=parse_available(_text("/proc/meminfo")),
        shm_gib=shutil.disk_usage("/dev/shm").free / GIB,
        tmp_gib=shutil.disk_usage(tempfile.gettempdir()).free / GIB,
        root_gib=shutil.disk_usage(run_dir).free / GIB,
        locked_memory=None if limit == resource.RLIM_INFINITY else limit,
        kernels_lack=compilers.kernels_lack(),
    )


def ask_driver() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs, and the reason why the driver did not answer; empty if it did."""
    try:
        try:
            lines = query(FIELDS)
        except DriverSilent:  # an older driver does not know all fields
            lines = query(BASIC)

        return parse_gpus(lines), ""
    except DriverSilent as error:
        return (), error.message


def parse_gpus(lines: Sequence[str]) -> tuple[Gpu, ...]:
    """Read the driver's lines. Raises DriverSilent for any other line: it may be about a lost GPU."""
    for line in lines:
        if line.count(",") < len(BASIC) - 1 or not line.split(",")[0].strip().isdigit():
            raise DriverSilent(f"nvidia-smi answers {line!r}")
    return tuple(_gpu(line.split(",")) for line in lines)


def _gpu(values: list[str]) -> Gpu:
    # An older driver answers the basic fields only, which come first.
    said = dict(zip(FIELDS, (value.strip() for value in values), strict=False))
    return Gpu(
        index=int(said["index"]),
        name=said["name"],
        driver=said["driver_version"],
        memory_mib=_number(said["memory.total"]),
        used_mib=_number(said["memory.used"]),
        compute_capability=said.get("compute_cap", ""),
        uncorrected_errors=_number(said.get("ecc.errors.uncorrected.volatile.total", "")),
        # Drivers write this as a word or as a number.
        remapping_pending=said.get("remapped_rows.pending") in ("Yes", "1"),
        remapping_failed=said.get("remapped_rows.failure") in ("Yes", "1"),
    )


def parse_xids(kernel_log: str, uptime: float) -> tuple[str, ...]:
    """``Xid 79 on PCI:0000:3b:00`` for each kind of hardware error of the last day in the kernel's log."""
    found = {
        f"Xid {number} on {device}"
        for stamp, device, number in _XID.findall(kernel_log)
        # The kernel's log counts seconds since boot.
        if int(number) in HARDWARE_XIDS and uptime - float(stamp) < XID_SECONDS
    }

    return tuple(sorted(found))


def parse_available(meminfo: str) -> float:
    """Return the GiB that are free for programs, from ``/proc/meminfo``."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    # The kernel's kB have 1024 bytes.
    return int(found[1]) / 2**20 if found else 0.0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A], [Not Supported]
        return None


def _uptime() -> float:
    return float((_text("/proc/uptime").split() or ["0"])[0])


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def kernel_log() -> str | None:
    """Return the kernel's log; None if it may not be read, as in most containers."""
    try:
        done = subprocess.run(
            ["dmesg"], capture_output=True, text=True, errors="replace", timeout=QUERY_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None

    return done.stdout if done.returncode == 0 else None

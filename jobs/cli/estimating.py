"""The facts that commands collect for an estimate.

They are this host's memory, the probes, and the goodput of earlier runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.entries import Probe
from jobctl.jobs.core import layout
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.jobs.core.run_times import read_goodput
from jobctl.jobs.estimate.rates import rates_of
from jobctl.jobs.estimate.report import Estimate, Question, available, estimate
from jobctl.jobs.estimate.situation import Situation, situation_of
from jobctl.jobs.runs import store
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Resolution
from jobctl.jobs.targets.registry import target_entry

GIB = 2**30
MEMINFO = Path("/proc/meminfo")
PROBES = "probes"
MOST_RUNS = 20
"""The number of newest runs whose goodput is read."""
MOST_LOOKED_AT = 200
"""The number of runs among which they are searched. An estimate must be fast."""


def probes_dir(root: Path) -> Path:
    """Return the folder of the probes of a root."""
    return root / PROBES


def read_probe(root: Path, hardware: str) -> Probe | None:
    """Return the probe of ``hardware`` in the root; None if none can be read."""
    try:
        return decode_json(read_regular(probes_dir(root) / f"{hardware}.json"), Probe)
    except (OSError, msgspec.MsgspecError):
        return None


def host_gib_free(meminfo: Path = MEMINFO) -> float | None:
    """Return the GiB that this host has available; None if the host does not report it."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    # The kernel's kB have 1024 bytes.
    return int(match[1]) * 1024 / GIB if match else None


def goodput_of(root: Path, spec: TrainSpec) -> tuple[float | None, int]:
    """Return the mean goodput of ended runs with this model and hardware, and their number."""
    shares: list[float] = []
    for path in _newest(layout.runs(root))[:MOST_LOOKED_AT]:
        if len(shares) == MOST_RUNS:
            break

        if not _same_kind(root, path.name, spec):
            continue

        # No present time is given: only recorded time is evidence for another run.
        goodput = read_goodput(path)
        if goodput and goodput.share > 0:
            shares.append(goodput.share)

    return (statistics.mean(shares), len(shares)) if shares else (None, 0)


def _newest(folder: Path) -> list[Path]:
    """Return the run directories. The last changed one comes first."""
    times: dict[str, float] = {}
    # The folder may not exist yet, and a run may be removed meanwhile.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                times[entry.path] = entry.stat(follow_symlinks=False).st_mtime

    # Names decide between equal times, so that each call gives one order.
    return [Path(path) for path in sorted(times, key=lambda path: (-times[path], path))]


def _same_kind(root: Path, name: str, spec: TrainSpec) -> bool:
    """Return whether a run trained this model on this hardware. False if the run cannot be read."""
    try:
        other = store.read(root, name).record.spec
    except Exception:  # a faulty run of any user is no evidence
        return False

    if not isinstance(other, TrainSpec):
        return False
    kind = (spec.model_name, spec.hardware, spec.stage)
    return (other.model_name, other.hardware, other.stage) == kind


def available_gib(resolved: Resolution, situation: Situation) -> float:
    """Return the GiB of a GPU or of the machine. It is this host's if the job runs here without a GPU."""
    assert resolved.machine is not None
    # Targets of one machine run their jobs on this host.
    # A job elsewhere must not be judged by the memory of a login node.
    on_this_host = target_entry(resolved.spec.target).most_nodes == 1
    here = host_gib_free() if on_this_host else None
    return available(situation, resolved.machine, here)


def estimate_of(resolved: Resolution, root: Path | None = None) -> Estimate | None:
    """Return the estimate of a training; None for any other job.

    Probes and earlier runs are read from ``root``.
    """
    spec = resolved.spec
    if not isinstance(spec, TrainSpec) or resolved.machine is None:
        return None

    situation = situation_of(spec)
    probe = read_probe(root, spec.hardware) if root else None
    goodput, count = goodput_of(root, spec) if root else (None, 0)

    return estimate(
        Question(
            model_name=spec.model_name,
            hardware_name=spec.hardware,
            situation=situation,
            machine=resolved.machine,
            site=spec.site,
            known=rates_of(resolved.machine, probe),
            optimal_tokens=resolved.optimal_tokens,
            available_gib=available_gib(resolved, situation),
            goodput=goodput,
            goodput_runs=count,
        )
    )

"""Compare this machine's GPUs with the request of a job.

Without a GPU a training would continue on the CPU, for weeks.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence

import msgspec

from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.driver import query
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.extras import install_hint
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.registry import target_entry

ENOUGH_MEMORY = 0.9
"""The share of the declared memory that a driver must at least report.

The driver keeps some memory for itself, and gigabytes are counted in two ways.
"""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU, as the driver reports it."""

    name: str
    memory_gib: float


def check_machine(spec: JobSpec, *, force: bool = False) -> None:
    """Raise UserError if a job on this machine needs GPUs or a package that the machine does not have.

    ``force`` accepts GPUs with less memory. Raises DriverSilent if the driver does not answer.
    """
    entry = target_entry(spec.target)
    if not entry.runs_here:
        return

    # An interpreter of the site may have packages that jobctl's interpreter does not have.
    if entry.image == "never" and not spec.site.python:
        check_package(spec.job_kind)

    # Ask the driver last: on a busy machine it takes seconds.
    if not spec.resources.gpus_per_node:
        return

    if refusal := refused(spec, visible_gpus(read_gpus(), os.environ), force=force):
        raise refusal


def check_package(kind: JobKind) -> None:
    """Raise UserError if jobctl's interpreter lacks the package of the kind.

    That interpreter runs the jobs of this machine.
    """
    if not kind.package or importlib.util.find_spec(kind.package) is not None:
        return

    # An extra has the name of the package that contains the modules that need it.
    extra = kind.module.split(".")[1]
    raise UserError(
        f"a {kind.name} job on this machine needs the Python package '{kind.package}', which is not installed",
        hint=f"{install_hint(extra)}; or use a cluster: --target slurm",
    )


def read_gpus() -> list[Gpu]:
    """Return the GPUs of this machine. Without a driver the list is empty."""
    # A GPU's name may have a comma in it, and its memory has none.
    lines = [line.rsplit(",", 1) for line in query(("name", "memory.total"))]
    return [Gpu(name=name.strip(), memory_gib=_gibibytes(mebibytes)) for name, mebibytes in lines]


def _gibibytes(mebibytes: str) -> float:
    """Return the memory of a GPU in GiB, or infinity if it shares the machine's memory and reports none."""
    try:
        return float(mebibytes) / 1024
    except ValueError:
        return math.inf


def visible_gpus(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves to a job, or all if it is not set.

    An entry that is not a number, such as a GPU's UUID, counts as one GPU.
    """
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not gpus:
        return list(gpus)

    words = [word.strip() for word in chosen.split(",") if word.strip()]
    # A UUID cannot be looked up in this list. Any existing index keeps the count right.
    indices = [int(word) if word.isdigit() else 0 for word in words]
    # CUDA ignores everything from the first index that does not exist.
    existing = next((i for i, index in enumerate(indices) if index >= len(gpus)), len(indices))

    return [gpus[index] for index in indices[:existing]]


def refused(spec: JobSpec, gpus: Sequence[Gpu], *, force: bool) -> UserError | None:
    """Return the error for a job that these GPUs cannot run, or None if they can."""
    wanted = spec.resources.gpus_per_node
    declared = spec.facts.memory_gib
    if len(gpus) < wanted:
        has = len(gpus) or "none"
        return UserError(
            f"the job needs {counted(wanted, 'GPU')} ({spec.hardware}); this machine has {has}",
            hint=_hint(len(gpus)),
        )

    # The smallest GPU decides, because all ranks have the same batch.
    smallest = min(gpus, key=lambda gpu: gpu.memory_gib)
    if smallest.memory_gib < ENOUGH_MEMORY * declared and not force:
        return UserError(
            f"a GPU of {spec.hardware} has {declared:g} GiB; this machine's {smallest.name} has "
            f"{smallest.memory_gib:.0f} GiB",
            hint="name other hardware (jobctl catalog list hardware), or use --force with a smaller --set "
            "batch_size=N",
        )

    return None


def _hint(gpus: int) -> str:
    if gpus:
        return f"use --gpus-per-node {gpus}; or use a cluster: --target slurm"
    return "use a cluster: --target slurm; or use a smoke model on the CPU: --model qwen3_smoke"

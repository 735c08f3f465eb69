"""Checks of this machine before a run. Each tests the real conditions that a job will meet here."""

from __future__ import annotations

import os
import re
import resource
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from jobctl.jobs.core.driver import DriverSilent, query
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.checks.finding import Finding
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.registry import target_entry

GIB = 1 << 30
LEAST_OPEN_FILES = 4096
LEAST_DISK_GIB = 20.0
LEAST_WRITE_MB_S = 100.0
PROBE_BYTES = 64 << 20
LEAST_SHM_GIB = 1.0
HOT_CELSIUS = 88
DRIVERS = {"cu132": 580, "cu124": 550}
"""The oldest driver that serves an image variant (docs/images.md)."""
QUERY = (
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "temperature.gpu",
    "ecc.errors.uncorrected.volatile.total",
)
PATIENCE_SECONDS = 20


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as its driver describes it. Memory is in MiB."""

    name: str
    driver: str
    memory_total: float
    memory_used: float
    temperature: float
    uncorrected_errors: float


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts that a check of a machine may read."""

    root: Path
    spec: JobSpec | None = None
    """The job that is to run; None if only the machine is checked."""
    shm: Path = Path("/dev/shm")
    gpus: tuple[Gpu, ...] | str = ()
    """The GPUs, or the reason why the driver cannot list them."""
    inputs: Callable[[JobSpec], None] | None = None
    """Raises UserError if the inputs of a job are missing or do not fit."""


MachineCheck = Callable[[MachineFacts], Finding | None]


def ask_gpus() -> tuple[Gpu, ...] | str:
    """Return this machine's GPUs, none without a driver, or the reason if the driver fails."""
    try:
        lines = query(QUERY)
    except DriverSilent as error:
        return error.message

    # Such a line may be about a GPU that the driver has lost.
    unreadable = [line for line in lines if line.count(",") < len(QUERY) - 1]
    if unreadable:
        return f"nvidia-smi answers {unreadable[0]!r}"

    return tuple(_gpu(line) for line in lines)


def _gpu(line: str) -> Gpu:
    # From the end: only the name may have a comma.
    name, driver, *numbers = [field.strip() for field in line.rsplit(",", len(QUERY) - 1)]
    total, used, heat, errors = (_number(field) for field in numbers)
    return Gpu(
        name=name,
        driver=driver,
        memory_total=total,
        memory_used=used,
        temperature=heat,
        uncorrected_errors=errors,
    )


def _number(field: str) -> float:
    """Return a field of nvidia-smi; 0 for ``[N/A]``."""
    return float(field) if re.fullmatch(r"[0-9.]+", field) else 0.0


def driver_answers(facts: MachineFacts) -> Finding | None:
    """Report a driver that is installed and does not work."""
    if not isinstance(facts.gpus, str):
        return None

    return Finding(
        check="driver_broken",
        cause="The GPU driver of this machine does not work.",
        evidence=facts.gpus,
        remedy="After an update of the driver, reboot. Otherwise report it to the administrators of the "
        "machine.",
        page="docs/images.md",
    )


def _gpus(facts: MachineFacts) -> tuple[Gpu, ...]:
    return facts.gpus if isinstance(facts.gpus, tuple) else ()


def driver_serves_image(facts: MachineFacts) -> Finding | None:
    """Report a driver that is too old for the image of the job."""
    variant = facts.spec.inputs.image_variant if facts.spec else ""
    least = DRIVERS.get(variant, 0)
    old = [gpu for gpu in _gpus(facts) if int(_number(gpu.driver.partition(".")[0])) < least]
    if not old:
        return None

    return Finding(
        check="driver_too_old",
        cause=f"The driver is too old for the image {variant}.",
        evidence=f"driver {old[0].driver}; {variant} needs {least} or newer",
        remedy="Update the driver. Or, if the GPU is not a B200, use --set image_variant=cu124.",
        page="docs/images.md",
    )


def gpus_are_free(facts: MachineFacts) -> Finding | None:
    """Report GPUs whose memory another process uses."""
    # The driver itself holds a little memory.
    used = [(n, g) for n, g in enumerate(_gpus(facts)) if g.memory_used > 0.05 * g.memory_total]
    if not used:
        return None

    return Finding(
        check="gpu_in_use",
        cause="Other processes use GPUs of this machine.",
        evidence=", ".join(
            f"GPU {n}: {g.memory_used / 1024:.1f} of {g.memory_total / 1024:.1f} GiB" for n, g in used
        ),
        remedy="nvidia-smi shows the processes. Use a scheduler: it gives each job its own GPUs.",
    )


def gpus_are_well(facts: MachineFacts) -> Finding | None:
    """Report GPUs that are too hot, or have errors in their memory."""
    ill = [
        f"GPU {n}: {g.temperature:.0f} °C, {g.uncorrected_errors:.0f} uncorrected memory errors"
        for n, g in enumerate(_gpus(facts))
        if g.temperature >= HOT_CELSIUS or g.uncorrected_errors > 0
    ]
    if not ill:
        return None

    return Finding(
        check="gpu_ill",
        cause="A GPU is too hot or has memory errors.",
        evidence=", ".join(ill),
        remedy="Avoid the node (--set exclude=NODE), and report it to its administrators. To measure it: "
        "jobctl submit preflight.",
        page="docs/slurm.md",
    )


def shared_memory(facts: MachineFacts) -> Finding | None:
    """Report too little shared memory for data workers."""
    try:
        free = shutil.disk_usage(facts.shm).free / GIB
    except OSError:
        free = 0.0

    if free >= LEAST_SHM_GIB:
        return None

    return Finding(
        check="shared_memory_small",
        cause="Shared memory is small. Data workers and NCCL need it.",
        evidence=f"{free:.2f} GiB free in {facts.shm}",
        remedy="Use docker run --shm-size 16g, or a memory-backed emptyDir at /dev/shm. jobctl's own "
        "targets do this.",
        page="docs/images.md",
    )


def existing(path: Path) -> Path:
    """Return the nearest folder above ``path`` that exists."""
    # The first job makes the root. Before that, perhaps only a folder above it exists.
    while not path.exists() and path != path.parent:
        path = path.parent

    return path


def root_is_writable(facts: MachineFacts) -> Finding | None:
    """Report a root that this user cannot write."""
    folder = existing(facts.root)
    # Without X_OK nobody can make a file in a folder, even with W_OK.
    if os.access(folder, os.W_OK | os.X_OK):
        return None

    return Finding(
        check="root_not_writable",
        cause="You cannot write to the root of all runs.",
        evidence=f"this user cannot write to {folder}",
        remedy="Set JOBCTL_ROOT to a folder of yours, or ask its owner.",
    )


def disk_space(facts: MachineFacts) -> Finding | None:
    """Report too little room for checkpoints."""
    folder = existing(facts.root)
    free = shutil.disk_usage(folder).free / GIB
    if free >= LEAST_DISK_GIB:
        return None

    return Finding(
        check="disk_small",
        cause="The root has little free space. One checkpoint of a 1.8B model takes 22 GB.",
        evidence=f"{free:.1f} GiB free at {folder}",
        remedy="Remove files, or set JOBCTL_ROOT to a larger file system.",
        page="docs/training.md#checkpoints-and-resume",
    )


def disk_rate(facts: MachineFacts) -> Finding | None:
    """Report a root with slow writes. The check writes and syncs 64 MiB, and removes it."""
    folder = existing(facts.root)
    # `root_is_writable` reports a folder without access.
    # The probe itself must not fill the disk.
    if not os.access(folder, os.W_OK | os.X_OK) or shutil.disk_usage(folder).free < 4 * PROBE_BYTES:
        return None

    rate = measured_rate(folder)
    if rate >= LEAST_WRITE_MB_S:
        return None

    return Finding(
        check="disk_slow",
        cause="Writing to the root is slow: a checkpoint of 22 GB would take long.",
        evidence=f"{rate:.0f} MB/s for {PROBE_BYTES >> 20} MiB at {folder}, synced",
        remedy="Choose faster storage for JOBCTL_ROOT, or save less often: set a larger checkpoint_interval.",
        page="docs/training.md#checkpoints-and-resume",
    )


def measured_rate(folder: Path) -> float:
    """Return the rate at which ``folder`` makes data durable, in MB/s. Raises OSError."""
    # Two users may probe one folder at the same time.
    path = folder / f".jobctl-doctor-{uuid.uuid4().hex}"
    # A file system that compresses would write zeros without any work.
    data = os.urandom(1 << 20)
    # The clock starts after the random data, which take time of their own.
    begin = time.perf_counter()
    try:
        with path.open("wb") as file:
            for _ in range(PROBE_BYTES // len(data)):
                file.write(data)

            file.flush()
            # Without this the page cache would be measured.
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)

    return PROBE_BYTES / 1e6 / (time.perf_counter() - begin)


def open_files(facts: MachineFacts) -> Finding | None:
    """Report a limit of open files that is too low for many workers and shards."""
    # A process may raise its soft limit up to the hard one.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY or limit >= LEAST_OPEN_FILES:
        return None

    return Finding(
        check="few_open_files",
        cause="A process may open only few files. Data workers and shards need many.",
        evidence=f"the hard limit is {limit}",
        remedy="Set a higher limit: ulimit -Hn, LimitNOFILE of slurmd, or --ulimit nofile of the container.",
    )


def commands(facts: MachineFacts) -> Finding | None:
    """Report programs that the target calls and this machine lacks."""
    target = facts.spec.target if facts.spec else ""
    programs = target_entry(target).programs if target else ()
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return None

    return Finding(
        check="commands_missing",
        cause=f"This machine lacks programs that the target {target} needs.",
        evidence=f"not on the PATH: {', '.join(missing)}",
        remedy="Log in to a machine that has them, load the cluster's module, or choose another --target.",
    )


def inputs(facts: MachineFacts) -> Finding | None:
    """Report data or a tokenizer that is missing, or does not fit the model."""
    if facts.spec is None or facts.inputs is None:
        return None

    try:
        facts.inputs(facts.spec)
    except UserError as error:
        return Finding(
            check="inputs",
            cause="The job's data is missing, or it does not fit the model.",
            evidence=error.message,
            remedy=error.hint or "Prepare the data: jobctl submit prep.",
            page="docs/data.md",
        )

    return None


MACHINE_CHECKS: tuple[MachineCheck, ...] = (
    driver_answers,
    driver_serves_image,
    gpus_are_free,
    gpus_are_well,
    shared_memory,
    root_is_writable,
    disk_space,
    disk_rate,
    open_files,
    commands,
    inputs,
)


def examine(facts: MachineFacts) -> list[Finding]:
    """Return the faults of this machine that matter for a job."""
    return [finding for check in MACHINE_CHECKS if (finding := check(facts)) is not None]

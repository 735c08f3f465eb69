"""The targets, with one entry each. No other module knows a target by its name.

An installed package adds a target through the entry point group ``jobctl.targets``. The value is a
``TargetEntry``. The client of a scheduler is imported only when its target is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

import msgspec

from jobctl.jobs.core.errors import UserError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from jobctl.jobs.targets.protocol import Target

GROUP = "jobctl.targets"
"""The group of Python entry points in which a package adds a target."""

VOLUME = "/workspace"
"""The path at which the pods of a cluster mount the shared volume."""

PODS = 10_000
"""The largest number of pods of a job.

Operators number the pods, and a pod's name of 63 characters has space for four digits.
"""


KUBERNETES_INSTEAD: dict[str, str] = {
    "slurm.exclusive": "ask for all GPUs of a node: --gpus-per-node",
    "slurm.gpu_type": "use kubernetes.gpu_product, the value of the node label",
    "slurm.memory": "use kubernetes.memory (reserved) and kubernetes.memory_limit (the most)",
    "slurm.partition": "use kubernetes.queue for a queue of Kueue, or kubernetes.node_selector to choose "
    "nodes",
    "slurm.reservation": "use kubernetes.node_selector and kubernetes.tolerations to choose reserved nodes",
    "slurm.spare_nodes": "Kubernetes moves a pod to another node by itself; exclude=NODE avoids a node",
}
"""Advice for a key that only Slurm reads, by the key."""
KUBERNETES_REFUSES: dict[str, str] = {
    "array_limit": "only Slurm has job arrays; a Job of Kubernetes runs all of its pods at once",
    "container.modules": "only podman-hpc and shifter have modules; remove the key",
    "container.runtime": "the kubelet starts the image; remove the key",
    "container.share_image": "the kubelet keeps images; remove the key",
    "modules": "a pod's software is in its image: --image REF",
    "secrets_file": "Kubernetes accepts secrets only by reference: kubernetes.secret names a Secret",
}
"""General keys that no pod can obey, with advice for each."""


class TargetEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a target that are needed before its module is imported."""

    name: str
    module: str
    """Python module with an object ``TARGET``, as ``jobctl.jobs.targets.protocol`` describes it."""

    section: str = ""
    """The section of site settings that only this target reads. Empty: it has none."""
    programs: tuple[str, ...] = ()
    """Programs that it calls on the submitting host."""
    warns_early: bool = False
    """True if the scheduler may warn of the time limit earlier than asked. Then short limits need care."""
    instead: dict[str, str] = {}
    """Advice for a key that only another scheduler reads, by the key."""
    refuses: dict[str, str] = {}
    """General keys that its jobs cannot obey, with advice for each key."""
    shares_files: bool = True
    """True if the submitting host sees the shared root under the same path as the jobs."""
    keeps_records: bool = False
    """True if the scheduler keeps the record of a run.

    Otherwise the run directory on this host is the record.
    """
    chains: bool = False
    """True if a job can wait in the scheduler's queue until another one has finished."""
    accepts_after: bool = True
    """True if ``--after RUN`` has a meaning: the job waits, or is refused until that run has finished."""
    root: str = ""
    """$JOBCTL_ROOT in every job, if the target decides it. Empty: the site decides it."""
    names_by_content: bool = False
    """True if a script that is only rendered names its run by the hash of its settings.

    Otherwise the script itself names the run when it begins.
    """
    most_nodes: int = 65_533
    """The largest number of nodes of a job. The default is Slurm's maximum (``MaxNodeCount``)."""
    runs_here: bool = False
    """True if its jobs run on the submitting host. Then its GPUs can be counted before a job starts."""
    has_arrays: bool = False
    """True if a job can be an array of tasks that run in parallel."""
    has_login: bool = False
    """True if its commands run on a login node, which the site may name for a user of another machine."""
    image: Literal["never", "by the site", "always"] = "never"
    """The condition for an image. "by the site" means: if ``container.runtime`` names a program."""


BUILT_IN = (
    TargetEntry(
        name="local",
        module="jobctl.jobs.targets.local",
        accepts_after=False,
        most_nodes=1,
        runs_here=True,
    ),
    TargetEntry(
        name="slurm",
        module="jobctl.slurm.target",
        section="slurm",
        programs=("sbatch", "squeue", "scontrol"),
        warns_early=True,
        chains=True,
        has_arrays=True,
        has_login=True,
        image="by the site",
    ),
    TargetEntry(
        name="allocation",
        module="jobctl.jobs.targets.allocation",
        section="slurm",
        programs=("srun", "squeue", "scontrol"),
        accepts_after=False,
    ),
    TargetEntry(
        name="k8s",
        module="jobctl.k8s.pytorchjob",
        section="kubernetes",
        instead=KUBERNETES_INSTEAD,
        refuses=KUBERNETES_REFUSES,
        shares_files=False,
        keeps_records=True,
        root=VOLUME,
        names_by_content=True,
        most_nodes=PODS,
        image="always",
    ),
    TargetEntry(
        name="k8s-trainjob",
        module="jobctl.k8s.trainjob",
        section="kubernetes",
        instead=KUBERNETES_INSTEAD,
        refuses=KUBERNETES_REFUSES,
        shares_files=False,
        keeps_records=True,
        root=VOLUME,
        names_by_content=True,
        most_nodes=PODS,
        image="always",
    ),
    TargetEntry(
        name="docker",
        module="jobctl.jobs.targets.docker",
        programs=("docker",),
        accepts_after=False,
        most_nodes=1,
        runs_here=True,
        image="always",
    ),
)
DEFAULT = BUILT_IN[0].name
_BUILT_IN = {entry.name: entry for entry in BUILT_IN}


def names() -> tuple[str, ...]:
    """Return the names of all targets. Those of installed packages come last."""
    installed = (point.name for point in _entry_points())
    return (*_BUILT_IN, *sorted({name for name in installed if name not in _BUILT_IN}))


def target_entry(name: str) -> TargetEntry:
    """Return the entry of the target ``name``. A built-in target wins over a package's with the same name.

    Raises UserError for an unknown name, and if the package of a target cannot be read.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]

    # Only for a name that is not built in: a search of the installed packages takes as long as a render.
    for point in _entry_points():
        if point.name == name:
            return _read(point)

    raise UserError(f"unknown target '{name}'; {nearest(name, names())}")


def load_target(name: str) -> Target:
    """Import the target ``name``.

    Raises UserError for an unknown name, and for a module without ``TARGET``.
    """
    entry = target_entry(name)
    try:
        target: Target = importlib.import_module(entry.module).TARGET
    except (ImportError, AttributeError) as error:
        # A broken built-in target is a fault of jobctl, so show its traceback.
        if name in _BUILT_IN:
            raise

        raise UserError(
            f"target '{name}': {entry.module}: {error}", hint="install its package again"
        ) from None

    return target


def _entry_points() -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))


def _read(point: EntryPoint) -> TargetEntry:
    try:
        entry = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"target '{point.name}': {point.value}: {error}") from None

    if not isinstance(entry, TargetEntry) or entry.name != point.name:
        raise UserError(f"target '{point.name}': {point.value} is not a TargetEntry with that name")

    return entry

"""The limits of an existing allocation for a job. It was made with salloc, or contains Jupyter."""

from __future__ import annotations

import math
import re
from datetime import datetime

import msgspec

from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, seconds
from jobctl.slurm.script import wanted_nodes

LEAST_SECONDS = 60
"""If an allocation ends within this many seconds, no job begins in it."""
_GPUS_OF_NODES = re.compile(r" Nodes=\S+ CPU_IDs=\S+ Mem=\S+ GRES=(\S*)")
_GPUS = re.compile(r"\bgpu(?::[^:,()]+)?:(\d+)")


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """An allocation as Slurm reports it. Times are seconds since 1970."""

    id: str
    state: str
    nodes: int
    gpus_per_node: int | None
    """The GPUs of the node that has the fewest, or None if Slurm does not report them."""
    start: float
    end: float
    """Infinity without a limit."""


def parse_allocation(text: str) -> Allocation:
    """Read the output of ``scontrol show job --details --oneliner``. Raises UserError for other text."""
    # A value may contain an equals sign, so a key must follow a blank.
    values = dict(re.findall(r"(?:^| )(\w+)=(\S*)", text))
    try:
        # A job that waits may have a range of nodes.
        nodes = int(values["NumNodes"].partition("-")[0])
        id_ = values["JobId"]
    except (KeyError, ValueError):
        raise UserError(f"scontrol show job gives no number of nodes: {text[:200]}", code=1) from None

    # Slurm lists nodes with equal shares together.
    shares = [sum(map(int, _GPUS.findall(share))) for share in _GPUS_OF_NODES.findall(text)]

    return Allocation(
        id=id_,
        state=values.get("JobState", ""),
        nodes=nodes,
        gpus_per_node=min(shares, default=None),
        start=_moment(values.get("StartTime", ""), 0.0),
        end=_moment(values.get("EndTime", ""), math.inf),
    )


def refused(spec: JobSpec, allocation: Allocation, now: float) -> UserError | None:
    """Return the reason why the allocation cannot hold the job, or None if it can.

    A time limit may be longer than the remaining time, if the whole allocation is at least as long. The steps
    of a pipeline share one limit, and each of them ends in time.
    """
    wanted = wanted_nodes(spec)
    gpus = spec.resources.gpus_per_node
    has = f"allocation {allocation.id} has"
    left = allocation.end - now

    # The order matters to the user: if an allocation has ended, every other reason is useless.
    if allocation.state != "RUNNING":
        return UserError(
            f"allocation {allocation.id} is {allocation.state}", hint="start another one with salloc", code=1
        )

    if wanted > allocation.nodes:
        return UserError(
            f"the job asks for {counted(wanted, 'node')}, {has} {allocation.nodes}",
            hint=f"--nodes {allocation.nodes}, or salloc --nodes={wanted}",
        )

    if allocation.gpus_per_node is not None and gpus > allocation.gpus_per_node:
        return UserError(
            f"the job asks for {counted(gpus, 'GPU')} a node, {has} {allocation.gpus_per_node}",
            hint=_gpu_hint(allocation.gpus_per_node, gpus),
        )

    # Check the sizes before this: more time would not help a job that is too large.
    if left < LEAST_SECONDS:
        return UserError(f"{has} {max(0, int(left))} s left", hint="start another one with salloc", code=1)

    if seconds(spec.resources.time_limit) > allocation.end - allocation.start:
        # The limit is rounded down, because seconds pass until the job begins.
        return UserError(
            f"time_limit is {spec.resources.time_limit}, {has} {_clock(left)} left",
            hint=f"--set time_limit={_clock(left - left % 60)}",
        )

    return None


def refuse_arrays(spec: JobSpec) -> None:
    """Raise UserError for a job that is an array over nodes."""
    nodes = spec.resources.nodes
    if spec.job_kind.array == "nodes" and nodes > 1:
        raise UserError(
            f"nodes {nodes}: {spec.step} on several nodes is a job array, which an allocation cannot run",
            hint="--nodes 1, or --target slurm",
        )


def refuse_other_cluster(spec: JobSpec, cluster: str) -> None:
    """Raise UserError if the job is for another cluster. An empty ``cluster`` is unknown, and passes."""
    wanted = spec.site.slurm.cluster
    if wanted and cluster and cluster not in wanted.split(","):
        raise UserError(
            f"slurm.cluster is {wanted}, but the allocation is on {cluster}",
            hint=f"--set slurm.cluster={cluster}, or --target slurm, which can reach {wanted}",
        )


def _moment(stamp: str, unknown: float) -> float:
    """Return the seconds since 1970 of a local time in the form of scontrol."""
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return unknown


def _clock(duration: float) -> str:
    minutes, rest = divmod(int(duration), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _gpu_hint(existing: int, wanted: int) -> str:
    if not existing:
        return f"salloc --gpus-per-node={wanted}, or a smoke model on the CPU: --model qwen3_smoke"

    return f"--gpus-per-node {existing}, or salloc --gpus-per-node={wanted}"

"""Find the bad nodes and the reasons, from the reports and measurements of all nodes. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.schema import Expected
from jobctl.trainer.preflight.node import Node

CLOCK_SECONDS = 2.0
"""Largest difference of clocks. Beyond it, files seem to come from the future, and logs do not match."""
MEMORY_GIB = 1.0
TMP_GIB = 0.5
ROOT_GIB = 1.0
ROOT_GIB_WITH_GPUS = 50.0
"""Space for two checkpoints of a model of 2 billion parameters, and for the other files of an attempt."""
SHM_GIB_A_GPU = 1.0
"""NCCL and DataLoader workers hand buffers over through /dev/shm."""
MEMORY_IN_USE = 0.1
"""Share of a GPU's memory that somebody else may hold before we begin."""
SLOW_SHARE = 0.85
"""Share of the median of all GPUs. Good ones differ by a few percent, a throttled one by much more."""
PEAK_SHARE = 0.3
"""Share of the dense peak. A large matrix product reaches 0.7 to 0.8 of it."""
BANDWIDTH_SHARE = 0.5
"""Share of the bandwidth that the hardware entry expects."""


class Problem(msgspec.Struct, frozen=True):
    """A fault of a node. ``node`` is empty if no single node is at fault."""

    node: str
    reason: str


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one rank. Bandwidths are bus bandwidths in GB/s; None without a partner."""

    node: str
    local_rank: int
    gpu: bool
    tflops: float
    node_gb_s: float | None = None
    network_gb_s: float | None = None
    """The better of those with its neighbours, of all this node's ranks at once."""
    error: str = ""


def missing(hosts: Sequence[str], nodes: Mapping[str, Node]) -> list[Problem]:
    """Return a fault for each host without a report: it did not start, or has another shared volume."""
    reason = "its report did not reach the shared volume: it did not start, or it mounts another volume"
    return [Problem(host, reason) for host in hosts if host not in nodes]


def of_node(node: Node, expected: Expected) -> list[Problem]:
    """Return the faults in the report of one node."""
    return [Problem(node.name, reason) for reason in (*_gpus(node, expected), *_room(node, expected))]


def _gpus(node: Node, expected: Expected) -> list[str]:
    found = []
    if node.unanswered:
        found.append(f"its GPUs are unknown: {node.unanswered}")
    elif expected.gpus and len(node.gpus) < expected.gpus:
        found.append(f"the driver shows {len(node.gpus)} GPUs of {expected.gpus}")

    for gpu in node.gpus:
        if expected.gpus and not is_device(expected.device, gpu.name):
            found.append(f"GPU {gpu.index} is {gpu.name}, not {expected.device}")

        if gpu.uncorrected_errors:
            found.append(f"GPU {gpu.index} has {gpu.uncorrected_errors:.0f} uncorrected ECC errors")

        if gpu.remapping_failed:
            found.append(f"GPU {gpu.index} could not replace a bad row of its memory")

        if gpu.remapping_pending:
            found.append(f"GPU {gpu.index} must be reset to replace a bad row of its memory")

        # A driver that does not tell the memory gives no reason to refuse the node.
        if expected.gpus and (gpu.used_mib or 0.0) > MEMORY_IN_USE * (gpu.memory_mib or float("inf")):
            found.append(f"GPU {gpu.index} has {(gpu.used_mib or 0) / 1024:.0f} GiB in use by somebody else")

    if expected.gpus and node.kernels_lack:
        found.append(f"kernels cannot be compiled: {node.kernels_lack}; install gcc and Python's headers")

    return [*found, *(node.xids or ())]


def _room(node: Node, expected: Expected) -> list[str]:
    root = ROOT_GIB_WITH_GPUS if expected.gpus else ROOT_GIB
    wanted = (
        ("memory", node.memory_gib, MEMORY_GIB * max(1, expected.gpus)),
        ("/dev/shm", node.shm_gib, SHM_GIB_A_GPU * expected.gpus),
        ("the folder of temporary files", node.tmp_gib, TMP_GIB),
        ("the shared volume", node.root_gib, root),
    )

    return [
        f"{what} has {there:.2f} GiB free, {least:g} are needed"
        for what, there, least in wanted
        if there < least
    ]


def of_clocks(skews: Mapping[str, float]) -> list[Problem]:
    """``skews``: each node's clock minus the shared volume's, in seconds. Compared with their median."""
    if len(skews) < 2:
        return []

    # The median, because one clock that is far off would move a mean.
    middle = statistics.median_low(skews.values())
    return [
        Problem(node, f"its clock is {skew - middle:+.1f} s off that of the others")
        for node, skew in skews.items()
        if abs(skew - middle) > CLOCK_SECONDS
    ]


def of_ranks(measured: Sequence[Measured], expected: Expected) -> list[Problem]:
    """Return failed ranks, GPUs slower than the others or than their kind, and links slower than expected."""
    found = [Problem(rank.node, f"{_who(rank)}: {rank.error}") for rank in measured if rank.error]
    whole = [rank for rank in measured if not rank.error]
    return [*found, *_slow(whole, expected), *_links(whole, expected)]


def _slow(measured: Sequence[Measured], expected: Expected) -> list[Problem]:
    middle = statistics.median([rank.tflops for rank in measured] or [0.0])
    found = []
    for rank in measured:
        if not rank.gpu:  # processors share their cores with others; how fast they are says nothing
            continue

        said = f"{_who(rank)}: {rank.tflops:,.0f} TFLOP/s in a matrix product"
        # The other GPUs come first: they are a sharper measure than a share of the peak.
        if rank.tflops < SLOW_SHARE * middle:
            found.append(Problem(rank.node, f"{said}, the others {middle:,.0f}"))
        elif rank.tflops < PEAK_SHARE * expected.peak_tflops:
            found.append(Problem(rank.node, f"{said}, of {expected.peak_tflops:,.0f}"))

    return found


def _links(measured: Sequence[Measured], expected: Expected) -> list[Problem]:
    """Return the nodes with slow links. If all nodes are equally slow, the cluster is at fault and no node."""
    # One rank speaks for its node, since all ranks of a node measure together.
    firsts = [rank for rank in measured if rank.local_rank == 0]
    found: list[Problem] = []
    for where, wanted, said in (
        ("within the node", expected.allreduce_gb_s, [rank.node_gb_s for rank in firsts]),
        ("with its neighbours", expected.allreduce_network_gb_s, [rank.network_gb_s for rank in firsts]),
    ):
        slow = [
            Problem(rank.node, f"all-reduce {where}: {speed:.1f} GB/s, {wanted:g} are expected")
            for rank, speed in zip(firsts, said, strict=True)
            if speed is not None and speed < BANDWIDTH_SHARE * wanted
        ]

        alike = len(slow) == len(firsts) > 1
        found += [Problem("", f"on every node {slow[0].reason}")] if alike else slow

    return found


def _who(rank: Measured) -> str:
    return f"{'GPU' if rank.gpu else 'process'} {rank.local_rank}"

"""``python -m jobctl.trainer.preflight.ranks`` under torchrun: time a product on each GPU and all-reduces.

Each node's first rank writes what all of them measured, so that every node comes to the same verdict.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist

from jobctl.jobs.catalog.schema import Expected
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError, first_line
from jobctl.trainer import distributed as parallel
from jobctl.trainer.preflight.verdict import Measured

TIMEOUT_SECONDS = 60
REPEATS = 5
GPU_SIZE = 8192
CPU_SIZE = 512
"""Rows and columns of the matrices: large enough that arithmetic takes most of the time."""
GPU_BYTES = 256 * 2**20
CPU_BYTES = 4 * 2**20
"""Of an all-reduce: where its bandwidth no longer grows."""


def main(report: Path, node: str, expected: Expected) -> int:
    """Measure, and write the list of ``Measured`` of all ranks to ``report`` from this node's first rank."""
    if expected.gpus:
        # Before the ranks meet: an image for other hardware must not look like a dead network.
        check_device()

    world = parallel.join("cuda" if expected.gpus else "cpu", TIMEOUT_SECONDS)
    local_rank = int(os.environ["LOCAL_RANK"])
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    # The links are measured by collectives, so every rank makes the same calls in the same order.
    within, between = links(world, local_rank, local_size)
    mine = Measured(
        node=node,
        local_rank=local_rank,
        gpu=world.device.type == "cuda",
        tflops=matrix_product(world.device),
        node_gb_s=within,
        network_gb_s=between,
    )

    measured = world.gathered(mine)
    if local_rank == 0:
        write_whole(report, msgspec.json.encode(measured))

    parallel.leave(world)

    return 0


def check_device() -> None:
    """Raise UserError if this torch reaches no GPU or has no code for it: the image is for other hardware."""
    cuda = f"torch {torch.__version__} with CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        raise UserError(f"{cuda} can use no GPU: the driver may be too old for it")

    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    # Code runs on GPUs of the same major version, and the driver compiles compute_ code for newer ones.
    if not any(arch.startswith((f"sm_{major}{minor}", f"sm_{major}0", f"compute_{major}")) for arch in built):
        raise UserError(
            f"{cuda} has no code for sm_{major}{minor} ({', '.join(built)}): take another image variant"
        )


def matrix_product(device: torch.device) -> float:
    """Return the median TFLOP/s of a square matrix product: bfloat16 on a GPU, float32 elsewhere."""
    size = GPU_SIZE if device.type == "cuda" else CPU_SIZE
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = median_seconds(lambda: left @ right, device)
    # Each of the size³ terms is a multiplication and an addition.
    return 2 * size**3 / seconds / 1e12


def links(world: parallel.World, local_rank: int, local_size: int) -> tuple[float | None, float | None]:
    """Return the bus bandwidth in GB/s of an all-reduce within this node, and of those with its neighbours.

    Between nodes all ranks of a node measure at once, each with its counterpart, so that every network card is used;
    the node's bandwidth is their sum. A node has two neighbours, and the better of the two counts: one that is slow
    with both is slow itself.
    """
    node = world.rank // local_size
    nodes = world.size // local_size
    within = None
    between = None
    if local_size > 1:
        first = node * local_size
        within = all_reduce(world, list(range(first, first + local_size)))

    # With two nodes, both rounds would measure the same pair.
    for odd in (0, 1) if nodes > 2 else (0,):
        pair = neighbours(node, nodes, odd)
        speed = all_reduce(world, [n * local_size + local_rank for n in pair]) if len(pair) == 2 else None
        # Every rank takes part, also one whose node has no partner in this round.
        together = [speed or 0.0 for speed in world.gathered(speed)]
        total = sum(together[node * local_size : (node + 1) * local_size])
        between = max(between or 0.0, total) if speed is not None else between

    return within, between


def neighbours(node: int, nodes: int, odd: int) -> list[int]:
    """``node`` and the one it is paired with: 0-1, 2-3, … and, where ``odd`` is 1, 1-2, 3-4, … around the end."""
    partner = (node - odd) % nodes ^ 1
    if partner >= nodes:
        return [node]  # the last one of an odd number
    return sorted((node, (partner + odd) % nodes))


def all_reduce(world: parallel.World, ranks: list[int]) -> float:
    """Bus bandwidth in GB/s: 2(n - 1)/n of the bytes go over each rank's link, as NCCL's own tests count."""
    backend = "nccl" if world.device.type == "cuda" else "gloo"
    # Only the ranks of the group meet here: the others make groups of their own at this moment.
    group = dist.new_group(ranks, backend=backend, use_local_synchronization=True)
    size = GPU_BYTES if world.device.type == "cuda" else CPU_BYTES
    data = torch.zeros(size // 4, device=world.device)
    seconds = median_seconds(lambda: dist.all_reduce(data, group=group), world.device)
    return 2 * (len(ranks) - 1) / len(ranks) * size / seconds / 1e9


def median_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of ``action``, of which the first call, which sets things up, does not count."""
    action()
    times = []
    for _ in range(REPEATS):
        # The device is idle when the clock starts, and done when it stops.
        synchronize(device)
        began = time.perf_counter()
        action()
        synchronize(device)
        times.append(time.perf_counter() - began)

    return sorted(times)[REPEATS // 2]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def entry_point() -> int:
    """Exit with 1 after a failure, and write it to this rank's file. The error names the node."""
    report = Path(sys.argv[1])
    node = sys.argv[2]
    expected = msgspec.json.decode(sys.argv[3], type=Expected)

    try:
        return main(report, node, expected)
    except Exception as error:
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        said = first_line(error)[:300]
        failed = Measured(node=node, local_rank=rank, gpu=expected.gpus > 0, tflops=0.0, error=said)
        write_whole(report.with_name(f"{report.name}.{rank}"), msgspec.json.encode([failed]))

        return 1


if __name__ == "__main__":
    code = entry_point()
    sys.stdout.flush()
    os._exit(code)  # unwinding gloo's threads at exit can abort, and hide the code

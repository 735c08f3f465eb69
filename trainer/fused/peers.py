"""Memory that the GPUs of one machine read from each other, without a kernel.

Copies out of it are done by the copy engines, while NCCL's kernels would take multiprocessors from the products that
run beside them. It is PyTorch's symmetric memory, whose interface is still in alpha: where it is not to be had,
collectives do the same.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)


class PeerMemory:
    """A flat tensor of this rank's, as long on every rank, and views of the others'."""

    def __init__(self, elements: int, dtype: torch.dtype, world: World) -> None:
        from torch.distributed import _symmetric_memory as symmetric

        os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")  # plain reads are all that is wanted
        group = dist.group.WORLD
        assert group is not None

        with warnings.catch_warnings(category=FutureWarning, action="ignore"):
            symmetric.enable_symm_mem_for_group(group.group_name)  # before torch 2.9 it has to be called

        self.mine = symmetric.empty(elements, dtype=dtype, device=world.device)
        self._shared = symmetric.rendezvous(self.mine, group)

    def of(self, rank: int, shape: Sequence[int], offset: int) -> Tensor:
        """A rank's ``shape`` elements from ``offset`` on, to be read only."""
        found: Tensor = self._shared.get_buffer(rank, tuple(shape), self.mine.dtype, offset)
        return found

    def barrier(self) -> None:
        """Let the device wait until every rank's has come this far."""
        self._shared.barrier()


def peer_memory(elements: int, dtype: torch.dtype, world: World) -> PeerMemory | None:
    """Memory of all ranks, if they are GPUs of one machine that read each other's; the same answer on every rank."""
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if world.device.type != "cuda" or local_size != world.size:
        return None

    reachable = all(
        torch.cuda.can_device_access_peer(world.device, other)
        for other in range(torch.cuda.device_count())
        if other != world.device.index
    )

    if world.any(not reachable):
        return None

    made = None
    reason = ""

    try:
        made = PeerMemory(elements, dtype, world)
    except (ImportError, AttributeError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]

    if world.any(made is None):
        log.warning("GPUs cannot read each other's memory here, so NCCL gathers weights: %s", reason)
        return None

    return made

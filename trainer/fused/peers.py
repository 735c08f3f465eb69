"""Memory that the GPUs of one machine read from each other without a kernel.

The copy engines read from it. NCCL's kernels would take multiprocessors away from the products that run at
the same time. It is PyTorch's symmetric memory, whose interface is still in alpha. Where it does not work,
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

from jobctl.jobs.core.errors import first_line
from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)


class PeerMemory:
    """A flat tensor of this rank, with the same length on every rank, and views of the other ranks' tensors."""

    def __init__(self, elements: int, dtype: torch.dtype, world: World) -> None:
        from torch.distributed import _symmetric_memory as symmetric

        # Multicast needs a setup that not every machine has. Plain reads do not need it.
        os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
        group = dist.group.WORLD
        assert group is not None

        with warnings.catch_warnings(category=FutureWarning, action="ignore"):
            # This call is needed before torch 2.9.
            symmetric.enable_symm_mem_for_group(group.group_name)

        self.mine = symmetric.empty(elements, dtype=dtype, device=world.device)
        self._shared = symmetric.rendezvous(self.mine, group)

    def of(self, rank: int, shape: Sequence[int], offset: int) -> Tensor:
        """Return a view of a rank's elements from ``offset`` on, in ``shape``. Only read it."""
        view: Tensor = self._shared.get_buffer(rank, tuple(shape), self.mine.dtype, offset)
        return view

    def barrier(self) -> None:
        """Make the device wait until every rank's device has come this far."""
        self._shared.barrier()


def peer_memory(elements: int, dtype: torch.dtype, world: World) -> PeerMemory | None:
    """Return memory of all ranks, if they are GPUs of one machine that can read from each other.

    Otherwise None.

    The answer is the same on every rank.
    """
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if world.device.type != "cuda" or local_size != world.size:
        return None

    reachable = all(
        torch.cuda.can_device_access_peer(world.device, other)
        for other in range(torch.cuda.device_count())
        if other != world.device.index
    )

    # All ranks take the same way, or some would wait for the others in the next collective.
    if world.any(not reachable):
        return None

    made = None
    reason = ""

    try:
        made = PeerMemory(elements, dtype, world)
    except (ImportError, AttributeError, TypeError, RuntimeError) as error:
        reason = first_line(error)

    # If it failed on one rank, no rank may use it.
    if world.any(made is None):
        log.warning("GPUs cannot read each other's memory here, so NCCL gathers weights: %s", reason)
        return None

    return made

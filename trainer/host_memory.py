"""Host memory that a rank keeps, for the copies of all saves and for tensors of a step. For a GPU it is pinned once."""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Iterator, Sequence

import torch

BLOCK_BYTES = 256 << 20
"""Bytes that are pinned in one call.

The training's own calls of the driver wait for one block, and not for all.
"""
ALIGNMENT = 64
"""Bytes of a cache line."""


class PinningRefused(Exception):
    """The driver refuses to pin this much memory."""


class Arena:
    """``size`` bytes of host memory, in blocks.

    Each block is pinned by itself, so one copy never crosses two blocks.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.blocks: list[torch.Tensor] = []

    def reserve(self) -> None:
        """Take the memory, and pin it if the tensors are on a GPU. Raises PinningRefused, or OSError."""
        if not self.size:
            return

        memory = mmap.mmap(-1, self.size)
        # Large pages make pinning several times cheaper. A kernel without them only takes longer.
        if sys.platform == "linux":
            memory.madvise(mmap.MADV_HUGEPAGE)

        whole = torch.frombuffer(memory, dtype=torch.uint8)
        blocks = [whole[begin : begin + BLOCK_BYTES] for begin in range(0, self.size, BLOCK_BYTES)]

        # Every page is touched now. Otherwise the page faults would happen in the first save, or inside the
        # driver while the training waits for it.
        for block in blocks:
            block.zero_()

        if self.device.type == "cuda":
            # A new thread begins with the first GPU.
            torch.cuda.set_device(self.device)
            pin_all(blocks)
            # Pinned memory must not be given back. At the end of the process the driver unpins it itself.
            weakref.finalize(self, unpin_all, blocks).atexit = False

        self.blocks = blocks

    def parts(self, position: int, count: int) -> Iterator[torch.Tensor]:
        """Yield ``count`` bytes from ``position`` on, as one tensor for each block."""
        end = position + count
        while position < end:
            index, begin = divmod(position, BLOCK_BYTES)
            length = min(BLOCK_BYTES - begin, end - position)
            yield self.blocks[index][begin : begin + length]
            position += length


def pin_all(blocks: Sequence[torch.Tensor]) -> None:
    """Lock the blocks in memory for the GPU's copy engine.

    If one is refused, lock none and raise PinningRefused.
    """
    driver = torch.cuda.cudart()

    for index, block in enumerate(blocks):
        code = int(driver.cudaHostRegister(block.data_ptr(), block.numel(), 0))
        if code:
            # Pinned pages are taken from all other programs of the host. Half of an arena is of no use.
            unpin_all(blocks[:index])
            raise PinningRefused(f"cudaHostRegister answered {code} after {index} of {len(blocks)} blocks")


def unpin_all(blocks: Sequence[torch.Tensor]) -> None:
    """Undo ``pin_all``."""
    driver = torch.cuda.cudart()
    for block in blocks:
        driver.cudaHostUnregister(block.data_ptr())


def aligned(count: int) -> int:
    """Return ``count`` rounded up, so that the next bytes begin on a cache line."""
    return -(-count // ALIGNMENT) * ALIGNMENT

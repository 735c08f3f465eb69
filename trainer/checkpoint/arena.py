"""Host memory that is kept for the copies of all saves: pinned once, for a GPU, and ahead of the first save."""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Iterator, Sequence

import torch

BLOCK_BYTES = 256 << 20
"""Pinned at a time: calls of the driver by the training wait for one block, not for all of them."""
ALIGNMENT = 64


class PinningRefused(Exception):
    """The driver does not pin so much memory."""


class Arena:
    """``size`` bytes of host memory, in blocks. A copy never crosses a block: each is pinned by itself."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.blocks: list[torch.Tensor] = []

    def reserve(self) -> None:
        """Take the memory, and pin it where the tensors are a GPU's. Raises PinningRefused, or OSError."""
        if not self.size:
            return

        memory = mmap.mmap(-1, self.size)
        # Large pages make pinning several times cheaper; a kernel without them only takes longer.
        if sys.platform == "linux":
            memory.madvise(mmap.MADV_HUGEPAGE)

        whole = torch.frombuffer(memory, dtype=torch.uint8)
        blocks = [whole[begin : begin + BLOCK_BYTES] for begin in range(0, self.size, BLOCK_BYTES)]

        # Touched now: page faults happen neither in the first save nor inside the driver, for which the
        # training may have to wait.
        for block in blocks:
            block.zero_()

        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # a new thread would begin with the first GPU
            pin_all(blocks)
            # Memory must not be given back while it is pinned; at the end of the process the driver does both.
            weakref.finalize(self, unpin_all, blocks).atexit = False

        self.blocks = blocks

    def parts(self, position: int, count: int) -> Iterator[torch.Tensor]:
        """The bytes from ``position`` on, in order, as one tensor for each block that they lie in."""
        end = position + count
        while position < end:
            index, begin = divmod(position, BLOCK_BYTES)
            length = min(BLOCK_BYTES - begin, end - position)
            yield self.blocks[index][begin : begin + length]
            position += length


def pin_all(blocks: Sequence[torch.Tensor]) -> None:
    """Lock the blocks in memory for the GPU's copy engine: all of them, or none and PinningRefused."""
    driver = torch.cuda.cudart()

    for index, block in enumerate(blocks):
        code = int(driver.cudaHostRegister(block.data_ptr(), block.numel(), 0))
        if code:
            unpin_all(blocks[:index])
            raise PinningRefused(f"cudaHostRegister answered {code} after {index} of {len(blocks)} blocks")


def unpin_all(blocks: Sequence[torch.Tensor]) -> None:
    """Undo ``pin_all``."""
    driver = torch.cuda.cudart()
    for block in blocks:
        driver.cudaHostUnregister(block.data_ptr())


def aligned(count: int) -> int:
    """``count``, rounded up, so that whatever comes next begins on a cache line."""
    return -(-count // ALIGNMENT) * ALIGNMENT

"""Working weights of the blocks with FSDP: those of a few blocks are in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from jobctl.trainer.distributed import World
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.fused.partition import Partition
from jobctl.trainer.fused.peers import peer_memory

HELD = 0.02
"""Share of a GPU's memory: what is gathered again and again costs more time than so little memory is worth."""


def buffers_for(blocks: int, block_bytes: int, world: World) -> int:
    """Of how many blocks FSDP holds the working weights: as many as fit into HELD of a GPU's memory, two at least.

    The same on every rank, for they gather together.
    """
    memory = 0
    if world.device.type == "cuda":
        memory = torch.cuda.get_device_properties(world.device).total_memory

    fitting: int = min(world.gathered(int(memory * HELD / block_bytes)))
    return max(2, min(blocks, fitting))


class BlockWeights:
    """Working weights of some blocks at a time: while one block computes, the next one's are on their way.

    Blocks are used in order, forward and then backward, so those that come last in one direction are still there in the
    other: of ``L`` blocks with ``B`` buffers ``2 (L - B)`` are gathered in a micro-step. A gather is queued when all
    that is to read the memory before it has been, and waits for it, so two buffers are enough.
    """

    def __init__(self, blocks: Sequence[Sequence[Projection]], partition: Partition) -> None:
        self.blocks = blocks
        self.partition = partition
        block_bytes = max(sum(p.working.nbytes for p in block) for block in blocks)
        self.buffers = buffers_for(len(blocks), block_bytes, partition.world)
        mine = [rows for block in blocks for projection in block for rows in projection.own]
        elements = sum(rows.numel() for rows in mine)
        dtype = mine[0].dtype
        self.peers = peer_memory(elements, dtype, partition.world)
        memory = self.peers.mine if self.peers else torch.empty(elements, dtype=dtype, device=mine[0].device)
        self.stream = torch.cuda.Stream(memory.device) if self.peers else None
        self.readings: list[list[tuple[Tensor, Tensor]]] = []
        """For each block what is copied from where, with peers."""
        end = 0

        for index, block in enumerate(blocks):
            self.readings.append([])
            for projection, buffer in zip(block, blocks[index % self.buffers], strict=True):
                *begins, end = itertools.accumulate((rows.numel() for rows in projection.own), initial=end)
                own = [
                    memory[begin : begin + rows.numel()]
                    for begin, rows in zip(begins, projection.own, strict=True)
                ]
                projection.move_to(buffer.working, own)
                self.readings[index] += self.places(projection, begins)

        self.forget()

    def places(self, projection: Projection, begins: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Each rank's rows of the working matrix, and where they are in that rank's memory; none without peers."""
        world = self.partition.world
        found = list[tuple[Tensor, Tensor]]()
        for copy, own, begin in zip(projection.copies, projection.own, begins, strict=True):
            ranks = range(world.size) if own.shape[0] < copy.shape[0] else [world.rank]
            for part, rank in zip(copy.split(own.shape[0]), ranks, strict=True):
                if self.peers:
                    found.append((part, self.peers.of(rank, own.shape, begin)))

        return found

    def forget(self) -> None:
        """What has been gathered is out of date: every rank has renewed its rows."""
        self.held: list[int | None] = [None] * self.buffers
        self.under_way: dict[int, list[dist.Work] | list[torch.cuda.Event]] = {}
        if self.peers:
            self.peers.barrier()

    def need(self, index: int, step: int) -> None:
        """Let the device wait for this block's weights, and gather the next one's; ``step`` is 1 or, backward, -1."""
        self.fetch(index)
        self.fetch(index + step)
        for work in self.under_way.pop(index, ()):
            work.wait()

    def before_backward(self, index: int, _: Tensor) -> None:
        """The hook of a gradient that is there when a block's backward pass is the next to run."""
        self.need(index, -1)

    def fetch(self, index: int) -> None:
        if not 0 <= index < len(self.blocks) or self.held[index % self.buffers] == index:
            return

        self.held[index % self.buffers] = index
        if self.stream:
            self.under_way[index] = [self.read(index, self.stream)]
        else:
            self.under_way[index] = [work for p in self.blocks[index] for work in p.gather()]

    def read(self, index: int, stream: torch.cuda.Stream) -> torch.cuda.Event:
        """Copy a block's rows out of the ranks' memory, on ``stream``; what tells that they are there."""
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            for part, source in self.readings[index]:
                part.copy_(source, non_blocking=True)

            event: torch.cuda.Event = stream.record_event()
            return event

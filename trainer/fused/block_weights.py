"""Working weights of the blocks with FSDP. Only those of a few blocks are in memory at a time."""

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
"""The share of a GPU's memory for working weights.

To save so little memory is not worth the time of more gathers.
"""


def buffers_for(blocks: int, block_bytes: int, world: World) -> int:
    """Return the number of blocks whose working weights FSDP keeps: those that fit into HELD, at least two.

    It is the same on every rank, because all ranks gather together.
    """
    memory = 0
    if world.device.type == "cuda":
        memory = torch.cuda.get_device_properties(world.device).total_memory

    fitting: int = min(world.gathered(int(memory * HELD / block_bytes)))
    # Two at least: one block computes with its weights while those of the next one arrive.
    return max(2, min(blocks, fitting))


class BlockWeights:
    """Working weights of some blocks at a time. While one block computes, those of the next one are gathered.

    Blocks are used in order, forward and then backward. So the last blocks of one direction are still in
    memory in the other: of ``L`` blocks with ``B`` buffers, ``2 (L - B)`` are gathered in a micro-step. A
    gather is queued after all work that reads the same memory, and waits for it. So two buffers are enough.
    """

    def __init__(self, blocks: Sequence[Sequence[Projection]], partition: Partition) -> None:
        self.blocks = blocks
        self.partition = partition
        block_bytes = max(sum(p.working.nbytes for p in block) for block in blocks)
        self.buffers = buffers_for(len(blocks), block_bytes, partition.world)
        rows_of_rank = [rows for block in blocks for projection in block for rows in projection.own]
        elements = sum(rows.numel() for rows in rows_of_rank)
        dtype = rows_of_rank[0].dtype
        # One flat tensor for all rows, because ranks exchange the address of a single one.
        self.peers = peer_memory(elements, dtype, partition.world)
        device = rows_of_rank[0].device
        memory = self.peers.mine if self.peers else torch.empty(elements, dtype=dtype, device=device)
        self.stream = torch.cuda.Stream(memory.device) if self.peers else None
        self.readings: list[list[tuple[Tensor, Tensor]]] = []
        """With peers, for each block: pairs of a target and the source in a rank's memory."""
        end = 0

        for index, block in enumerate(blocks):
            self.readings.append([])
            # Blocks that share a buffer are ``buffers`` apart, so neighbours never share one.
            for projection, buffer in zip(block, blocks[index % self.buffers], strict=True):
                *begins, end = itertools.accumulate((rows.numel() for rows in projection.own), initial=end)
                kept_rows = [
                    memory[begin : begin + rows.numel()]
                    for begin, rows in zip(begins, projection.own, strict=True)
                ]
                projection.move_to(buffer.working, kept_rows)
                self.readings[index] += self.places(projection, begins)

        self.forget()

    def places(self, projection: Projection, begins: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return each rank's rows of the working matrix, and their place in that rank's memory.

        Empty without peers.
        """
        world = self.partition.world
        pairs = list[tuple[Tensor, Tensor]]()
        for copy, rows, begin in zip(projection.copies, projection.own, begins, strict=True):
            ranks = range(world.size) if rows.shape[0] < copy.shape[0] else [world.rank]
            for part, rank in zip(copy.split(rows.shape[0]), ranks, strict=True):
                if self.peers:
                    pairs.append((part, self.peers.of(rank, rows.shape, begin)))

        return pairs

    def forget(self) -> None:
        """Drop the gathered weights. They are out of date, because every rank has renewed its rows."""
        self.held: list[int | None] = [None] * self.buffers
        self.under_way: dict[int, list[dist.Work] | list[torch.cuda.Event]] = {}
        # No rank may read another one's rows before they are renewed.
        if self.peers:
            self.peers.barrier()

    def need(self, index: int, step: int) -> None:
        """Make the device wait for this block's weights, and gather those of the next one.

        ``step`` is 1 in the forward pass and -1 in the backward pass.
        """
        # This block first: its rows must be under way before those of the next one.
        self.fetch(index)
        self.fetch(index + step)
        # Taken out, because the weights stay in place and need no second wait.
        for work in self.under_way.pop(index, ()):
            work.wait()

    def before_backward(self, index: int, _: Tensor) -> None:
        """Fetch a block's weights.

        It is the hook of a gradient that exists just before the block's backward pass.
        """
        self.need(index, -1)

    def fetch(self, index: int) -> None:
        if not 0 <= index < len(self.blocks) or self.held[index % self.buffers] == index:
            return

        # Noted when the gather begins, so that a second request does not begin it again.
        self.held[index % self.buffers] = index
        if self.stream:
            self.under_way[index] = [self.read(index, self.stream)]
        else:
            self.under_way[index] = [work for p in self.blocks[index] for work in p.gather()]

    def read(self, index: int, stream: torch.cuda.Stream) -> torch.cuda.Event:
        """Copy a block's rows out of the ranks' memory, on ``stream``.

        Return the event at the end of the copies.
        """
        # The work that still reads this buffer is queued on the current stream.
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            for part, source in self.readings[index]:
                part.copy_(source, non_blocking=True)

            event: torch.cuda.Event = stream.record_event()
            return event

"""With FSDP some blocks' weights are in memory at a time, read from the ranks that keep them; here without ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from jobctl.trainer.distributed import World
from jobctl.trainer.fused import block_weights
from jobctl.trainer.fused.block_weights import BlockWeights, buffers_for
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.fused.partition import Partition

RANKS = 2
BLOCKS = 5
ROWS = ([4, 2, 3], [6])
"""Rows of the weights of a block's two projections; three do not divide by two ranks."""


class Stream:
    """One on which everything is done at once."""

    def __init__(self, _: torch.device) -> None:
        self.device = torch.device("cpu")

    def wait_stream(self, _: object) -> None: ...

    def record_event(self) -> Any:
        return SimpleNamespace(wait=lambda: None)


class Peers:
    """What two ranks have in memory, in one process."""

    def __init__(self, rank: int, memories: list[Tensor]) -> None:
        self.mine = memories[rank]
        self.memories = memories

    def of(self, rank: int, shape: Sequence[int], offset: int) -> Tensor:
        return self.memories[rank][offset : offset + torch.Size(shape).numel()].view(shape)

    def barrier(self) -> None: ...


def on_rank(rank: int, whole: list[list[Tensor]]) -> BlockWeights:
    """A rank's blocks, whose own rows are those of ``whole``, a matrix for each projection."""
    partition = cast("Partition", object.__new__(Partition))
    partition.world = World(rank=rank, size=RANKS, device=torch.device("cpu"))
    partition.reshard = True

    def projection(rows: list[int]) -> Projection:
        return Projection([nn.Parameter(torch.empty(r, 3)) for r in rows], torch.float32, partition=partition)

    blocks = [[projection(rows) for rows in ROWS] for _ in whole]
    weights = BlockWeights(blocks, partition)
    for block, matrices in zip(blocks, whole, strict=True):
        for made, matrix in zip(block, matrices, strict=True):
            for own, part in zip(made.own, matrix.split(made.rows), strict=True):
                own.copy_(partition.own(part))
    return weights


@pytest.mark.parametrize("buffers", [2, 3, BLOCKS])
def test_each_block_has_all_ranks_rows_when_it_is_needed(
    buffers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories: list[Tensor] = []

    def shared(elements: int, dtype: torch.dtype, world: World) -> Peers:
        if not memories:
            memories.extend(torch.full((elements,), torch.nan, dtype=dtype) for _ in range(RANKS))
        return Peers(world.rank, memories)

    monkeypatch.setattr(block_weights, "peer_memory", shared)
    monkeypatch.setattr(block_weights, "buffers_for", lambda *_: buffers)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    generator = torch.Generator().manual_seed(0)
    whole = [[torch.randn(sum(rows), 3, generator=generator) for rows in ROWS] for _ in range(BLOCKS)]
    ranks = [on_rank(rank, whole) for rank in range(RANKS)]
    reads: list[int] = []
    read = BlockWeights.read

    def counted(self: BlockWeights, index: int, stream: Any) -> Any:
        reads.append(index)
        return read(self, index, stream)

    monkeypatch.setattr(BlockWeights, "read", counted)
    micro_step = [*((i, 1) for i in range(BLOCKS)), *((i, -1) for i in reversed(range(BLOCKS)))]
    for weights in ranks:
        assert len({projections[0].working.data_ptr() for projections in weights.blocks}) == buffers
        for expected in (
            BLOCKS + BLOCKS - buffers,
            2 * (BLOCKS - buffers),
        ):  # in the first nothing is there yet
            reads.clear()
            for index, step in micro_step:
                weights.need(index, step)
                for projection, matrix in zip(weights.blocks[index], whole[index], strict=True):
                    assert torch.equal(projection.working, matrix), (
                        weights.partition.world.rank,
                        index,
                        step,
                    )
            assert len(reads) == expected


@pytest.mark.parametrize(("block_bytes", "buffers"), [(500, 2), (450, 2), (300, 3), (10, 18)])
def test_as_many_blocks_weights_are_held_as_fit_into_a_share_of_the_smallest_gpus_memory(
    block_bytes: int, buffers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unequal(World):
        def gathered(self, value: Any, group: Any = None) -> list[Any]:
            return [value, int(48_000 * block_weights.HELD / block_bytes)]

    found = SimpleNamespace(total_memory=50_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    assert buffers_for(18, block_bytes, Unequal(0, 2, torch.device("cuda", 0))) == buffers


def test_without_a_gpu_two_blocks_weights_are_held() -> None:
    assert buffers_for(18, 10, World(0, 1, torch.device("cpu"))) == 2

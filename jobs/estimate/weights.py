"""Bytes of weights, gradients and optimiser state on one rank, under each way to shard them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.estimate.situation import WIDE, Situation

MOMENTS = 2
"""AdamW's two moments of each weight."""
HELD = 0.02
"""Share of a GPU that FSDP's gathered blocks may take (``trainer/fused/block_weights.py``)."""
MIB = 2**20
GIB = 2**30


class Matrix(msgspec.Struct, frozen=True):
    """A weight of a matrix product, or the table of embeddings."""

    rows: int
    columns: int
    count: int
    """The number of such tensors in the model."""
    in_block: bool

    def elements(self, ranks: int = 1) -> int:
        """Return the elements that one of ``ranks`` keeps; all if the rows cannot be divided evenly."""
        whole = self.rows * self.columns * self.count
        return whole if self.rows % ranks else whole // ranks


def matrices(situation: Situation) -> Iterator[Matrix]:
    """Yield every matrix of the model once."""
    shapes = situation.shapes
    hidden = shapes.hidden
    yield Matrix(shapes.queries, hidden, shapes.layers, True)
    yield Matrix(shapes.keys, hidden, 2 * shapes.layers, True)
    yield Matrix(hidden, shapes.queries, shapes.layers, True)

    inputs = 2 if situation.family.gated_feed_forward else 1
    yield Matrix(shapes.inner, hidden, inputs * shapes.layers, True)
    yield Matrix(hidden, shapes.inner, shapes.layers, True)

    tables = 1 if situation.model.tie_word_embeddings else 2
    yield Matrix(shapes.vocabulary, hidden, tables, False)


def multiplied(situation: Situation, ranks: int = 1, blocks_only: bool = False) -> int:
    """Return the elements of all matrices that one of ``ranks`` keeps."""
    return sum(each.elements(ranks) for each in matrices(situation) if each.in_block or not blocks_only)


def kept_elements(situation: Situation) -> int:
    """Return the elements whose weight and optimiser state a rank keeps."""
    whole = arithmetic.parameters(situation.model)
    if not situation.sharded:
        return whole
    if situation.path == "fused":
        return whole - multiplied(situation) + multiplied(situation, situation.ranks)

    # fully_shard pads each tensor's rows, so all of them divide evenly.
    return -(-whole // situation.ranks)


class Fixed(msgspec.Struct, frozen=True):
    """Bytes that do not depend on the batch."""

    weights: int
    optimizer: int
    gradients: int
    working_copies: int
    communication: int
    workspaces: int

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return sum(getattr(self, name) for name in self.__struct_fields__)


def fixed_bytes(situation: Situation) -> Fixed:
    """Return the fixed memory at the loss of a step's last micro-step."""
    kept = kept_elements(situation)
    return Fixed(
        weights=WIDE * kept + _tables(situation),
        optimizer=MOMENTS * WIDE * kept,
        gradients=_gradients(situation),
        working_copies=_working_copies(situation),
        communication=_buckets(situation),
        workspaces=_workspaces(situation),
    )


def _tables(situation: Situation) -> int:
    """Return the bytes of the cosines and sines of all positions."""
    model = situation.model
    rotated = situation.family.rotary_positions
    return WIDE * model.max_position_embeddings * model.head_dim if rotated else 0


def _gradients(situation: Situation) -> int:
    """Return the bytes of the float32 sums of all earlier micro-steps, whole on each rank.

    The fused kernels keep the memory of theirs from step to step. Plain ones have none in a step's first
    micro-step.
    """
    if situation.path == "fused" or situation.train.gradient_accumulation_steps > 1:
        return WIDE * arithmetic.parameters(situation.model)
    return 0


def _working_copies(situation: Situation) -> int:
    """Return the bytes of the rounded copies of the weights that products read."""
    blocks = multiplied(situation, blocks_only=True)
    ends = multiplied(situation) - blocks
    if situation.path == "fused":
        if situation.sharding == "fsdp":
            return _fsdp_copies(situation, blocks) + situation.narrow * ends

        both_ways = 2 * blocks if situation.float8 else 0
        return situation.narrow * (blocks + ends) + both_ways

    if situation.narrow == WIDE:
        return 0 if not situation.sharded else _gathered(situation, blocks, ends)
    if situation.sharded:
        return _gathered(situation, blocks, ends)

    # Autocast rounds a block's weights and the head's, and keeps them until the backward pass.
    head = arithmetic.head_parameters(situation.model)
    return situation.narrow * (blocks + head)


def _gathered(situation: Situation, blocks: int, ends: int) -> int:
    """Return the bytes that fully_shard has gathered at the loss: all with ZeRO-1, one block with FSDP."""
    of_blocks = blocks if situation.sharding == "zero1" else blocks // situation.shapes.layers
    return situation.narrow * (of_blocks + ends)


def _fsdp_copies(situation: Situation, blocks: int) -> int:
    """Return the bytes of the block buffers. Over a network add this rank's own rows."""
    of_block = situation.narrow * blocks // situation.shapes.layers
    memory = situation.facts.memory_gib * GIB
    # There are at least two: one block computes while the next is gathered.
    buffers = max(2, min(situation.shapes.layers, int(memory * HELD / of_block)))
    return buffers * of_block + (own_rows(situation) if situation.several_nodes else 0)


def own_rows(situation: Situation) -> int:
    """Return the bytes of a rank's rounded rows of the blocks. With FSDP they are stored apart."""
    return situation.narrow * multiplied(situation, situation.ranks, blocks_only=True)


def _buckets(situation: Situation) -> int:
    """Return the bytes of DistributedDataParallel's buckets. The fused kernels reduce in place."""
    if situation.path == "fused" or situation.sharding != "ddp":
        return 0
    return WIDE * arithmetic.parameters(situation.model)


def _workspaces(situation: Situation) -> int:
    """Return the workspaces of cuBLAS on Hopper, one per multiplying thread, and of our cuBLASLt products."""
    if not situation.gpu:
        return 0

    fused = situation.path == "fused"
    count = 3 if fused else 2
    if fused and situation.train.use_cuda_graphs and situation.sharding != "fsdp":
        # The stream on which graphs are captured also has workspaces.
        count += 2

    return count * 32 * MIB

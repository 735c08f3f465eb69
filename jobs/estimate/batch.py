"""The largest micro-batch that fits, and the micro-batch that ``batch_size=auto`` chooses."""

from __future__ import annotations

import msgspec

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.estimate.memory import memory, outside_gib
from jobctl.jobs.estimate.situation import Situation
from jobctl.jobs.estimate.weights import GIB

SLACK = 0.005
"""Share of a GPU that stays free between the allocator's segments."""
MOST = 4096
"""The most sequences in a micro-batch. Larger micro-batches have no use."""


def needed_gib(situation: Situation) -> float:
    """Return the GiB of a GPU, or of a machine's memory, that one rank takes in all."""
    return memory(situation).total / GIB + outside_gib(situation)


def room_gib(situation: Situation, available_gib: float) -> float:
    """Return the GiB of ``available_gib``, a GPU's or a machine's memory, that one rank may take."""
    # Without GPUs the ranks of a machine share its memory.
    share = 1 if situation.gpu else situation.ranks_per_node
    return available_gib * (1 - SLACK) / share


def fits(situation: Situation, available_gib: float) -> bool:
    """Return whether a rank has room in ``available_gib``, a GPU's memory or a whole machine's."""
    return needed_gib(situation) <= room_gib(situation, available_gib)


def largest_batch(situation: Situation, available_gib: float) -> int:
    """Return the largest ``batch_size`` that fits, 0 if none does.

    It is found by bisection, because memory only grows.
    """
    low = 0
    high = 1
    while high <= MOST and fits(situation.with_batch(high), available_gib):
        low = high
        high *= 2

    high = min(high, MOST + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(situation.with_batch(middle), available_gib):
            low = middle
        else:
            high = middle

    return low


def automatic_batch(situation: Situation, available_gib: float) -> TrainConfig | None:
    """Return the training with the largest micro-batch that fits. None if none fits.

    The global batch does not change, so the micro-batch is a divisor of the sequences of a rank.
    """
    train = situation.train
    sequences = train.batch_size * train.gradient_accumulation_steps
    divisors = [size for size in range(1, sequences + 1) if sequences % size == 0]

    for size in reversed(divisors):
        changed = msgspec.structs.replace(
            train, batch_size=size, gradient_accumulation_steps=sequences // size
        )

        if fits(msgspec.structs.replace(situation, train=changed), available_gib):
            return changed

    return None

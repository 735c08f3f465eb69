"""Find the rank that the others wait for. Times are gathered during training; no step waits for them."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from jobctl.trainer.distributed import World
from jobctl.trainer.reporting.gpu_state import NUMBERS, GpuState, sensor_of, state_of

SLOWER = 1.1
"""A rank that takes so many times the median rank's time is slow."""
LEAST_MS = 1.0
"""Milliseconds a step below which no difference matters."""
IN_A_ROW = 3
"""Log intervals in a row after which a rank is named."""
SAID_EVERY = 20
"""Log intervals after which it is named again."""
MOST_LISTED = 64
"""Ranks whose times are all written into the run log."""
UNKNOWN = GpuState()
PARTS = ("compute_ms", "optimizer_ms", "data_wait_ms", "communication_ms")


@dataclasses.dataclass(frozen=True)
class RankTimes:
    """Milliseconds a step of one rank, in one log interval."""

    compute_ms: float
    """Forward, backward and optimiser."""
    data_wait_ms: float
    communication_ms: float
    """The part in which an early rank waits for the others."""
    gpu: GpuState = UNKNOWN

    @property
    def busy_ms(self) -> float:
        """Return the part of the time that makes others wait."""
        return self.compute_ms + self.data_wait_ms


def slowest(times: Sequence[RankTimes]) -> int | None:
    """Return the rank that is clearly slower than the median one; None if there is none."""
    busy = [rank.busy_ms for rank in times]
    # Of two ranks the usual median is the mean, which would hide the slow one.
    median = statistics.median_low(busy)
    rank = max(range(len(busy)), key=busy.__getitem__)
    is_slow = busy[rank] > SLOWER * median and busy[rank] > median + LEAST_MS

    return rank if is_slow else None


def words(times: Sequence[RankTimes], rank: int, place: str) -> str:
    """Describe how slow a rank is, and the state of its GPU."""
    slow = times[rank]
    median = statistics.median_low([other.busy_ms for other in times])
    more = slow.busy_ms / median - 1 if median else 0.0
    typical = statistics.median_low([other.data_wait_ms for other in times])
    # The data is the cause if more than half of the delay comes from it.
    reason = "waits for its data" if slow.data_wait_ms - typical > (slow.busy_ms - median) / 2 else "computes"
    gpu = f"; its GPU: {slow.gpu}" if str(slow.gpu) else ""

    return (
        f"rank {rank} ({place}) is slow: it {reason}, {slow.busy_ms:.0f} ms a step where the median rank takes "
        f"{median:.0f} ms ({more:+.0%}), and the others wait for it{gpu}"
    )


class Stragglers:
    """Gathers the ranks' times of each log interval. Make it on every rank at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sensor = sensor_of(world.device)
        gpu = f", GPU {world.device.index}" if world.device.type == "cuda" else ""
        self.places: list[str] = world.gathered(f"{os.uname().nodename}{gpu}")
        self._pending: tuple[Any, list[torch.Tensor], int] | None = None
        self._suspect: int | None = None
        self._intervals = 0

    def gather(self, step: int, timing: Mapping[str, float]) -> list[str | dict[str, Any]]:
        """Send this rank's times. Return the record and the message about the interval before.

        Nothing here waits: the interval before was sent a whole interval ago.
        """
        if self.world.size == 1:
            return []

        news = self._received()
        mine = torch.tensor([timing.get(part, 0.0) for part in PARTS] + self.sensor.read().numbers())
        gathered = [torch.empty_like(mine) for _ in range(self.world.size)]
        # The tensors are on the host, so no GPU waits for this exchange.
        work = dist.all_gather(gathered, mine, group=self.world.control, async_op=True)
        # Kept until the exchange is over, because it writes into these tensors.
        self._pending = (work, gathered, step)

        return news

    def _received(self) -> list[str | dict[str, Any]]:
        if self._pending is None:
            return []

        work, gathered, step = self._pending
        work.wait()
        times = [times_of(row.tolist()) for row in gathered]

        return [record(step, times), *self.judge(times)]

    def judge(self, times: Sequence[RankTimes]) -> list[str]:
        """Return a message about a rank that has been slow for some intervals in a row."""
        rank = slowest(times)
        self._intervals = self._intervals + 1 if rank is not None and rank == self._suspect else 1
        self._suspect = rank
        # It is named after IN_A_ROW intervals, and then once in SAID_EVERY.
        if rank is None or self._intervals % SAID_EVERY != IN_A_ROW:
            return []

        return [words(times, rank, self.places[rank])]


def times_of(row: list[float]) -> RankTimes:
    """Return the times that a rank has sent."""
    compute, optimizer, data_wait, communication = row[:-NUMBERS]
    return RankTimes(compute + optimizer, data_wait, communication, state_of(row[-NUMBERS:]))


def record(step: int, times: Sequence[RankTimes]) -> dict[str, Any]:
    """Return the run log's line: all ranks, or of many the slowest and the median."""
    busy = [round(rank.busy_ms, 3) for rank in times]
    facts: dict[str, Any] = {
        "kind": "ranks",
        "iter": step,
        "slowest": max(range(len(busy)), key=busy.__getitem__),
        "slowest_ms": max(busy),
        "median_ms": statistics.median_low(busy),
    }
    if len(times) <= MOST_LISTED:
        facts["compute_ms"] = [round(rank.compute_ms, 3) for rank in times]
        facts["data_wait_ms"] = [round(rank.data_wait_ms, 3) for rank in times]
        facts["communication_ms"] = [round(rank.communication_ms, 3) for rank in times]

    return facts

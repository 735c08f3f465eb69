"""The intervals of a log from which a figure is made, and its mean over them. Pure.

A figure of a run is made of its steady intervals, in every command. The present figures of a
run are made of its recent ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from jobctl.jobs.monitoring.history import PARTS, History, Interval

WARMUP_STEPS = 50
"""Steps that the guide's analysis leaves out."""
WARMUP_SHARE = 0.1
"""But never more than this part of the run."""
RECENT = 5
"""The present speed is the mean of this many newest intervals."""


class Steady(NamedTuple):
    """The intervals from which the figures of a run are made."""

    intervals: Sequence[Interval]
    warmup: int
    """Steps at the beginning that are left out."""
    is_whole: bool
    """True if all intervals were kept, because otherwise none would remain."""


def steady(history: History, skip: int | None = None) -> Steady:
    """Return the steady intervals of a run: those after ``skip`` steps, or else after its warm-up.

    If none would remain, return all intervals.
    """
    warmup = warmup_steps(history) if skip is None else skip
    chosen = steady_intervals(history, warmup)
    return Steady(chosen or history.intervals, warmup, not chosen)


def warmup_steps(history: History) -> int:
    """Return the number of first steps that do not count: they compile, read first data and fill caches."""
    return min(WARMUP_STEPS, int(WARMUP_SHARE * history.last_step))


def steady_intervals(history: History, warmup: int) -> list[Interval]:
    """Return the intervals after the run's warm-up, without the first interval after each resume."""
    resumed = {segment.resumed_from for segment in history.segments if segment.resumed_from}
    # The first interval after a resume compiles and fills its caches anew.
    begins = {i.iter for i in history.intervals if i.iter - i.steps in resumed}
    # The first interval compiles, even if a user skips no steps.
    first = history.intervals[0].iter if history.intervals else 0
    return [
        i
        for i in history.intervals
        if i.iter - i.steps >= warmup and i.iter not in begins and i.iter != first
    ]


def of_newest_attempt(history: History) -> Sequence[Interval]:
    """Return the intervals of the newest attempt; those of all attempts if it has logged none."""
    resumed = (history.segments[-1].resumed_from or 0) if history.segments else 0
    return [i for i in history.intervals if i.iter > resumed] or history.intervals


def recent(intervals: Sequence[Interval]) -> Sequence[Interval]:
    """Return the newest intervals of an attempt, without its first one if there are others."""
    return intervals[1:][-RECENT:] or intervals


def mean(intervals: Sequence[Interval], name: str) -> float | None:
    """Return the mean of a field over steps; None if no interval has it."""
    pairs = [(getattr(i, name), i.steps) for i in intervals if math.isfinite(getattr(i, name))]
    steps = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / steps if steps else None


def rate(intervals: Sequence[Interval]) -> float | None:
    """Return tokens/s while steps run: all tokens over all time, not the mean of the rates."""
    timed = [i for i in intervals if math.isfinite(i.tokens_per_sec) and i.seconds]
    seconds = sum(i.seconds for i in timed)
    if seconds:
        return sum(i.tokens_per_sec * i.seconds for i in timed) / seconds

    # A log without step times still has rates.
    return mean(intervals, "tokens_per_sec")


def split(intervals: Sequence[Interval]) -> dict[str, float]:
    """Return the share of a step's time by part, and ``other`` for the rest.

    The result is empty if no part was measured.
    """
    total = mean(intervals, "dt_ms")
    if not total:
        return {}

    shares = {part: (mean(intervals, f"{part}_ms") or 0.0) / total for part in PARTS}
    # A log of another tool has no parts, and "100% other" would mean nothing.
    if not any(shares.values()):
        return {}

    # Parts that overlap can sum to more than the whole step.
    return {**shares, "other": max(0.0, 1.0 - sum(shares.values()))}

"""Shorten a long log: the lowest, the mean and the highest value of each bucket of steps. Pure.

All runs of a report share one grid of buckets, so that their curves need not be joined in the browser. A
spike stays visible at any width, because the lowest and the highest value are kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

Values = list[float | None]
"""One value for each bucket; None if the run has no value in it."""


class Band(msgspec.Struct, frozen=True):
    """A column of a log in buckets."""

    low: Values
    mean: Values
    high: Values


class Grid(msgspec.Struct, frozen=True):
    """Buckets of equal width over the steps 1 to ``last``."""

    last: int
    count: int

    @property
    def ends(self) -> list[int]:
        """Return the last step of each bucket."""
        return [round(self.last * (i + 1) / self.count) for i in range(self.count)]


def grid_for(last: int, most: int) -> Grid:
    """Return at most ``most`` buckets for ``last`` steps; one bucket for each step if they are enough."""
    return Grid(last=max(last, 1), count=max(1, min(last, most)))


def places(steps: Sequence[int], grid: Grid) -> list[int]:
    """Return, for each bucket, the number of sorted ``steps`` that are at or before its end."""
    return [bisect_right(steps, end) for end in grid.ends]


def band(values: Sequence[float], upto: Sequence[int], digits: int = 5) -> Band:
    """Return the band of a column whose buckets end at ``upto`` (of ``places``).

    Values that are not finite are left out.
    """
    low: Values = []
    mean: Values = []
    high: Values = []
    begin = 0
    # A test of each value costs more than all the rest, and most logs have numbers only.
    clean = math.isfinite(math.fsum(values)) if values else True

    for end in upto:
        part = values[begin:end] if clean else [v for v in values[begin:end] if math.isfinite(v)]
        begin = end
        if not part:
            low.append(None)
            mean.append(None)
            high.append(None)
            continue

        low.append(rounded(min(part), digits))
        mean.append(rounded(sum(part) / len(part), digits))
        high.append(rounded(max(part), digits))

    return Band(low, mean, high)


def rounded(value: float, digits: int = 5) -> float:
    """Return ``value`` with a few digits. More digits cannot be seen, and would be half of the page."""
    return float(f"{value:.{digits}g}")


def spread_out(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the places 0 to ``count`` - 1: evenly spread, with the last."""
    if count <= most:
        return list(range(count))

    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})

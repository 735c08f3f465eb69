"""The order in which the sources of a mixture take turns.

``EvenTurns`` is the order of new runs. It repeats after a cycle. Within the cycle each source takes its turns
as evenly as possible: after any number of samples, its count differs from its share by less than one sample
(R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980).

``ShuffledTurns`` is the order of older runs. It shuffles the turns of a cycle of 65,536 samples. So a small
source repeats blocks long before it has shown all of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jobctl.trainer.data.permutation import key, permute

ORDER = 2
"""The order of samples in new runs. A run keeps the order that it began with."""
SHUFFLED_CYCLE = 1 << 16
"""Samples in a cycle of order 1."""
LONGEST_CYCLE = 1 << 18
"""Samples of the longest cycle. Weights that need a longer one are rounded to one part in this many."""


def exact_counts(weights: Sequence[float]) -> tuple[int, ...] | None:
    """Return the turns of each source in the shortest cycle that has exactly the shares of ``weights``.

    A weight is the decimal number that a user wrote: 0.3 is three tenths, and not the nearest binary
    fraction. Return None if that cycle is longer than ``LONGEST_CYCLE``.
    """
    fractions = [Fraction(repr(weight)) for weight in weights]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    turns = [int(fraction * denominator) for fraction in fractions]
    divisor = math.gcd(*turns)
    counts = tuple(turn // divisor for turn in turns)
    return counts if sum(counts) <= LONGEST_CYCLE else None


def rounded_counts(weights: Sequence[float], cycle: int) -> tuple[int, ...]:
    """Return the turns of each source in ``cycle`` samples, by largest remainder.

    Every source gets at least one turn. So tiny weights may make the cycle a few turns longer.
    """
    total = math.fsum(weights)
    shares = [cycle * weight / total for weight in weights]
    counts = [max(1, int(share)) for share in shares]

    # Rounding down leaves some turns over. The sources with the largest remainders get them.
    by_remainder = sorted(range(len(shares)), key=lambda source: int(shares[source]) - shares[source])

    for index in range(cycle - sum(counts)):
        counts[by_remainder[index % len(counts)]] += 1

    return tuple(counts)


def turns_in_cycle(weights: Sequence[float]) -> tuple[int, ...]:
    """Return the number of samples of each source in one cycle."""
    return exact_counts(weights) or rounded_counts(weights, LONGEST_CYCLE)


def cycle_of(counts: Sequence[int]) -> npt.NDArray[np.uint16]:
    """Return the source of each sample of a cycle, shape [sum(counts)].

    This is Tijdeman's rule in whole numbers. Only a source whose share is at least 1/(2n - 2) ahead of its
    turns may be next. Among these, the one that would be late first comes next.
    """
    cycle = sum(counts)
    if len(counts) == 1:
        return np.zeros(cycle, dtype=np.uint16)

    # All quantities are multiplied by (2n - 2) · cycle, so that there is no rounding.
    scale = 2 * len(counts) - 2
    turns = [0] * len(counts)
    order = np.empty(cycle, dtype=np.uint16)
    chosen_slack = 0

    for sample in range(cycle):
        chosen = -1
        for source, count in enumerate(counts):
            ahead = scale * ((sample + 1) * count - cycle * turns[source])
            if ahead < cycle:
                continue

            # Time until the source is late, as the fraction slack / count.
            slack = (scale - 1) * cycle - ahead
            # Fractions are compared by cross-multiplication. Equal ones keep the earlier source, so the order
            # is always the same.
            if chosen < 0 or slack * counts[chosen] < chosen_slack * count:
                chosen = source
                chosen_slack = slack

        order[sample] = chosen
        turns[chosen] += 1

    return order


def turn_numbers(order: npt.NDArray[np.uint16], sources: int) -> npt.NDArray[np.int64]:
    """Return for each sample of a cycle the number of earlier samples of its source, shape [cycle]."""
    numbers = np.empty(len(order), dtype=np.int64)
    for source in range(sources):
        places = np.flatnonzero(order == source)
        numbers[places] = np.arange(len(places))

    return numbers


class Turns(Protocol):
    """Find the source of each sample."""

    counts: tuple[int, ...]
    """Turns of each source in one cycle."""

    def locate(self, number: int) -> tuple[int, int]:
        """Return (source, number of earlier samples of that source) of sample ``number``."""
        ...


class EvenTurns:
    """Order 2: the samples of a source come in their order, and each source has its share at every moment."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.counts = turns_in_cycle(weights)
        self._order = cycle_of(self.counts)
        self._numbers = turn_numbers(self._order, len(self.counts))

    def locate(self, number: int) -> tuple[int, int]:
        """Return (source, number of earlier samples of that source) of sample ``number``."""
        cycle, place = divmod(number, len(self._order))
        source = int(self._order[place])
        return source, cycle * self.counts[source] + int(self._numbers[place])


class ShuffledTurns:
    """Order 1: the turns of a cycle are shuffled, and so are the samples of a source within it."""

    def __init__(self, weights: Sequence[float], fingerprint: str, seed: int) -> None:
        # One source has nothing to mix: its cycle is one sample.
        self.counts = (1,) if len(weights) == 1 else rounded_counts(weights, SHUFFLED_CYCLE)
        self.fingerprint = fingerprint
        self.seed = seed

    def locate(self, number: int) -> tuple[int, int]:
        """Return (source, number of the sample within that source) of sample ``number``."""
        cycle, place = divmod(number, sum(self.counts))
        if len(self.counts) > 1:
            place = permute(place, sum(self.counts), self._keys(cycle))

        # The shuffled place lies in the part of one source. Each part is as long as the source has turns.
        source = 0

        while place >= self.counts[source]:
            place -= self.counts[source]
            source += 1

        return source, cycle * self.counts[source] + place

    @functools.lru_cache(maxsize=8)  # noqa: B019 - lives as long as the run
    def _keys(self, cycle: int) -> tuple[int, ...]:
        return key(self.fingerprint, self.seed, "mixture", cycle)

"""The order in which the sources of a mixture take turns.

``EvenTurns`` is the order of new runs. It repeats after a cycle. Within the cycle a source takes
its turns as evenly as whole samples allow: after any number of samples, each source has had its
share to less than one sample (R. Tijdeman, "The chairman assignment problem", Discrete
Mathematics 32, 1980).

``ShuffledTurns`` is the order of runs that began before there was another one. It shuffles the
turns of a cycle of 65,536 samples, so that a small source repeats blocks long before it has shown
all of them.
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
"""The order of samples that new runs have. A run keeps the order that it began with."""
SHUFFLED_CYCLE = 1 << 16
"""Samples in a cycle of order 1."""
LONGEST_CYCLE = 1 << 18
"""Samples of the longest cycle. Weights that need a longer one are rounded to one part in this many."""


def exact_counts(weights: Sequence[float]) -> tuple[int, ...] | None:
    """Return the turns of each source in the shortest cycle that holds ``weights`` exactly.

    A weight counts as the decimal number that its text shows: 0.3 is three tenths.
    Return None where that cycle is longer than ``LONGEST_CYCLE``.
    """
    fractions = [Fraction(repr(weight)) for weight in weights]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    turns = [int(fraction * denominator) for fraction in fractions]
    divisor = math.gcd(*turns)
    counts = tuple(turn // divisor for turn in turns)
    return counts if sum(counts) <= LONGEST_CYCLE else None


def rounded_counts(weights: Sequence[float], cycle: int) -> tuple[int, ...]:
    """Return the turns of each source in ``cycle`` samples, by largest remainder.

    Every source gets one turn at least; tiny weights may make the cycle longer by as many turns.
    """
    total = math.fsum(weights)
    shares = [cycle * weight / total for weight in weights]
    counts = [max(1, int(share)) for share in shares]

    # The largest remainders get the turns that rounding down left over.
    by_remainder = sorted(range(len(shares)), key=lambda source: int(shares[source]) - shares[source])

    for index in range(cycle - sum(counts)):
        counts[by_remainder[index % len(counts)]] += 1

    return tuple(counts)


def turns_in_cycle(weights: Sequence[float]) -> tuple[int, ...]:
    """Return how many samples each source gets in one cycle."""
    return exact_counts(weights) or rounded_counts(weights, LONGEST_CYCLE)


def cycle_of(counts: Sequence[int]) -> npt.NDArray[np.uint16]:
    """Return the source of each sample of a cycle, shape [sum(counts)].

    Tijdeman's rule in whole numbers: among the sources whose share is at least 1/(2n - 2) ahead
    of their turns, the one that would be late first comes next.
    """
    cycle = sum(counts)
    if len(counts) == 1:
        return np.zeros(cycle, dtype=np.uint16)

    # All quantities are multiplied by (2n - 2) · cycle, so that no rounding enters.
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
            if chosen < 0 or slack * counts[chosen] < chosen_slack * count:
                chosen = source
                chosen_slack = slack

        order[sample] = chosen
        turns[chosen] += 1

    return order


def turn_numbers(order: npt.NDArray[np.uint16], sources: int) -> npt.NDArray[np.int64]:
    """Return for each sample of a cycle how many samples its source has had before it, shape [cycle]."""
    numbers = np.empty(len(order), dtype=np.int64)
    for source in range(sources):
        places = np.flatnonzero(order == source)
        numbers[places] = np.arange(len(places))

    return numbers


class Turns(Protocol):
    """Says whose turn each sample is."""

    counts: tuple[int, ...]
    """Turns of each source in one cycle."""

    def locate(self, number: int) -> tuple[int, int]:
        """Return (source, how many samples of that source came before) of sample ``number``."""
        ...


class EvenTurns:
    """Order 2: a source's samples ascend, and each source has its share at every moment."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.counts = turns_in_cycle(weights)
        self._order = cycle_of(self.counts)
        self._numbers = turn_numbers(self._order, len(self.counts))

    def locate(self, number: int) -> tuple[int, int]:
        """Return (source, how many samples of that source came before) of sample ``number``."""
        cycle, place = divmod(number, len(self._order))
        source = int(self._order[place])
        return source, cycle * self.counts[source] + int(self._numbers[place])


class ShuffledTurns:
    """Order 1: the turns of a cycle are shuffled, and so are a source's samples within it."""

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

        source = 0

        while place >= self.counts[source]:
            place -= self.counts[source]
            source += 1

        return source, cycle * self.counts[source] + place

    @functools.lru_cache(maxsize=8)  # noqa: B019 - lives as long as the run
    def _keys(self, cycle: int) -> tuple[int, ...]:
        return key(self.fingerprint, self.seed, "mixture", cycle)

"""Test whether a difference between repeated runs is more than chance. Student's t, in Python. Pure.

Runs are compared by the logarithms of their results: a loss of 0.5% less is the same at every size.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

LEVEL = 0.02
"""Chance of a false difference of two groups. It is below 5%: a user looks at several results at once."""
POWER = 0.9
"""Chance that the test shows a difference that is called detectable."""
WORTH = 0.005
"""A user is told how many runs show this gap: half a percent of the loss."""
MOST_REPEATS = 10_000
LEAST_SHARED = 3
"""From this number on, pairs of one seed are worth more than runs without a partner."""
LATE = 0.5
"""Share of a run, from its end, over which curves are compared."""
# Lentz's method divides by its terms, so this number replaces a zero.
_TINY = 1e-300

Method = Literal["pairs", "groups", "spread of one", "one seed", "none"]
"""``pairs``: the same seeds on both sides. ``groups``: other seeds. ``spread of one``: one side has a single run.
``one seed``: a single run each, of the same seed. ``none``: the part of chance is unknown."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between the results of two groups of runs."""

    relative: float
    """The second compared with the first: 0.005 is half a percent more."""
    spreads: float | None
    """The difference in units of the spread between repeats; None without repeats."""
    p: float | None
    """Chance of a difference this large without a cause; None if it is unknown."""
    method: Method
    detectable: float | None = None
    """The smallest difference that so many runs of this spread show in nine of ten cases; None if unknown."""
    repeats: int | None = None
    """Runs on each side that show a gap of ``WORTH`` in nine of ten cases; None if unknown."""

    @property
    def is_real(self) -> bool | None:
        """Return whether it is more than chance; None if that is unknown."""
        return None if self.p is None else self.p < LEVEL


def compare(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Return the difference of results, which are by seed. None if a side has no positive result."""
    a = {seed: math.log(value) for seed, value in first.items() if value > 0}
    b = {seed: math.log(value) for seed, value in second.items() if value > 0}
    if not a or not b:
        return None

    shared = shared_seeds(a, b)
    if shared:
        a = {seed: a[seed] for seed in shared}
        b = {seed: b[seed] for seed in shared}

    relative = math.expm1(statistics.fmean(b.values()) - statistics.fmean(a.values()))
    spread = pooled_spread([list(a.values()), list(b.values())])
    spreads = relative / spread if spread else None

    # The same seeds mean the same weights and batches at first. So the common part of a pair cancels.
    if shared:
        return _of(paired([b[seed] - a[seed] for seed in shared]), relative, spreads, "pairs")

    if len(a) >= 2 and len(b) >= 2:
        return _of(welch(list(a.values()), list(b.values())), relative, spreads, "groups")

    if len(a) >= 2 or len(b) >= 2:
        return _of(pooled(list(a.values()), list(b.values())), relative, spreads, "spread of one")

    return Difference(relative=relative, spreads=None, p=None, method="none")


def shared_seeds(first: Collection[int], second: Collection[int]) -> list[int]:
    """Return the seeds of the pairs that are compared; none if runs without a partner say more.

    Those without a partner are left out, so at least half of the smaller side must have one.
    """
    shared = sorted(set(first) & set(second))
    if len(shared) >= 2 and len(shared) == len(first) == len(second):
        return shared

    enough = len(shared) >= LEAST_SHARED and 2 * len(shared) >= min(len(first), len(second))
    return shared if enough else []


def _of(test: Test, relative: float, spreads: float | None, method: Method) -> Difference:
    # `one seed` has no number of repeats, because its blocks are not runs.
    sides = {"pairs": 1, "groups": 2, "spread of one": 2}.get(method)
    return Difference(
        relative=relative,
        spreads=spreads,
        p=test.p,
        method=method,
        detectable=math.expm1(test.detectable),
        repeats=repeats_for(math.log1p(WORTH), test.spread, sides) if sides else None,
    )


def repeats_for(gap: float, spread: float, sides: int) -> int | None:
    """Return the runs of each side that show ``gap`` with the chance ``POWER``.

    None for more than ``MOST_REPEATS``.

    ``spread`` is the standard deviation of a run, with two ``sides``; of the differences of pairs, with one.
    """
    # A t with few degrees of freedom needs more runs than the normal distribution. So the number grows.
    normal = statistics.NormalDist()
    wanted = normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)
    least = sides * (wanted * spread / gap) ** 2

    for count in range(max(2, math.ceil(min(least, MOST_REPEATS))), MOST_REPEATS):
        error = spread * math.sqrt(sides / count)
        if Test(0.0, error, sides * (count - 1), spread).detectable <= gap:
            return count

    return None


def compare_pairs(curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Difference | None:
    """Return the difference of pairs of loss curves in their late parts. A pair has the same batches.

    The noise of a batch is the same on both sides and cancels. A mean over many
    steps removes most of the rest.
    None without two pairs of curves that have late steps.
    """
    ratios = [ratio for first, second in curves if (ratio := late_ratio(first, second)) is not None]
    if len(ratios) < 2:
        return None

    return _of(paired(ratios), math.expm1(statistics.fmean(ratios)), None, "pairs")


def late_ratio(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the mean logarithm of second by first over the late steps that both have.

    None if there are none.
    """
    both = list(zip(first, second, strict=False))
    late = both[int(len(both) * (1 - LATE)) :]
    logarithms = [math.log(b / a) for a, b in late if a > 0 and b > 0]
    return statistics.fmean(logarithms) if logarithms else None


def compare_curves(first: Sequence[float], second: Sequence[float], blocks: int = 10) -> Difference | None:
    """Return the difference of two loss curves in their last halves. Both have the same steps and batches.

    Neighbouring steps depend on each other, so the means of ``blocks`` stretches are compared, not steps.
    None if there are too few steps.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=False) if a > 0 and b > 0]
    ratios = [math.log(b / a) for a, b in pairs]
    ratios = ratios[len(ratios) // 2 :]
    length = len(ratios) // blocks
    if not length:
        return None

    means = [statistics.fmean(ratios[i * length : (i + 1) * length]) for i in range(blocks)]
    relative = math.expm1(statistics.fmean(means))
    return _of(paired(means), relative, None, "one seed")


def pooled_spread(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the common standard deviation within the groups; None without repeats."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None

    squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups if len(group) > 1)
    return math.sqrt(squares / freedom)


class Test(NamedTuple):
    """The result of a t-test."""

    difference: float
    error: float
    freedom: float
    spread: float
    """The standard deviation of one run, or of one pair's difference."""

    @property
    def p(self) -> float:
        """Return the two-sided p of no difference."""
        return two_sided(self.difference, self.error, self.freedom)

    @property
    def detectable(self) -> float:
        """Return the difference that is called real with the chance ``POWER``.

        With fewer than five repeats the chance is a little less.
        """
        needed = quantile(LEVEL, self.freedom) + quantile(2 * (1 - POWER), self.freedom)
        return needed * self.error


def paired(differences: Sequence[float]) -> Test:
    """Test whether the mean difference is 0."""
    count = len(differences)
    spread = statistics.stdev(differences)
    return Test(statistics.fmean(differences), spread / math.sqrt(count), count - 1, spread)


def welch(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test whether the means are equal, with a separate variance for each group (Welch, 1947)."""
    errors = [statistics.variance(group) / len(group) for group in (a, b)]
    total = sum(errors)
    difference = statistics.fmean(b) - statistics.fmean(a)
    spread = pooled_spread([a, b]) or 0.0
    # If repeats are equal to the bit, the error is 0, and nothing may be divided by it.
    if not total:
        return Test(difference, 0.0, 1, spread)

    parts = [error**2 / (len(group) - 1) for error, group in zip(errors, (a, b), strict=True)]
    freedom = total**2 / sum(parts)
    return Test(difference, math.sqrt(total), freedom, spread)


def pooled(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test whether the means are equal, with one variance from the repeats of both sides."""
    spread = pooled_spread([a, b]) or 0.0
    error = spread * math.sqrt(1 / len(a) + 1 / len(b))
    return Test(statistics.fmean(b) - statistics.fmean(a), error, len(a) + len(b) - 2, spread)


def quantile(p: float, freedom: float) -> float:
    """Return the t at which the two-sided chance is ``p``, by bisection."""
    low = 0.0
    # Even with one degree of freedom, the t of ``LEVEL`` is 32, far below this bound.
    high = 1e6
    # A hundred halvings are finer than any float.
    for _ in range(100):
        middle = (low + high) / 2
        if two_sided(middle, 1.0, freedom) > p:
            low = middle
        else:
            high = middle

    return high


def two_sided(difference: float, error: float, freedom: float) -> float:
    """Return the chance of a Student's t at least as far from 0 as ``difference / error``."""
    if abs(difference) < 1e-12:  # the same bits, except for the rounding of a mean
        return 1.0

    # The repeats agree and the results differ: that is no chance. Avoid a division by zero.
    if error <= abs(difference) * 1e-9:
        return 0.0

    t = difference / error
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) (Abramowitz and Stegun, 26.5.8)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0

    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logarithm + a * math.log(x) + b * math.log1p(-x))
    # The fraction converges quickly on one side of the mean only; the other side follows by symmetry.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a

    return 1.0 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function, by Lentz's method."""
    numerator = 1.0
    denominator = 1.0 / (1.0 - (a + b) * x / (a + 1) or _TINY)
    value = denominator
    # The number of terms grows with the root of a and b, which is at most about 100 here.
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        factor = 1.0
        for term in (even, odd):
            denominator = 1.0 / (1.0 + term * denominator or _TINY)
            numerator = 1.0 + term / numerator or _TINY
            factor = denominator * numerator
            value *= factor

        # A factor this close to 1 is at the precision of a float.
        if abs(factor - 1.0) < 1e-14:
            break

    return value

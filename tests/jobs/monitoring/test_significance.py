"""Student's t by its tables, and the share of wrong and of right verdicts."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest

from jobctl.jobs.monitoring.significance import (
    LEVEL,
    WORTH,
    compare,
    compare_curves,
    compare_pairs,
    incomplete_beta,
    late_ratio,
    paired,
    pooled,
    pooled_spread,
    quantile,
    repeats_for,
    shared_seeds,
    two_sided,
    welch,
)


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [
        (12.706, 1, 0.05),
        (4.303, 2, 0.05),
        (2.228, 10, 0.05),
        (3.169, 10, 0.01),
        (2.042, 30, 0.05),
        (1.697, 30, 0.10),
        (3.291, 100_000, 0.001),
        (-2.228, 10, 0.05),
    ],
)
def test_the_tables_of_students_t(t: float, freedom: float, p: float) -> None:
    assert two_sided(t, 1.0, freedom) == pytest.approx(p, rel=2e-3)


def test_the_incomplete_beta_function_where_it_has_a_closed_form() -> None:
    for x in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert incomplete_beta(x, 1, 1) == pytest.approx(x)
        assert incomplete_beta(x, 3, 1) == pytest.approx(x**3)
        assert incomplete_beta(x, 1, 4) == pytest.approx(1 - (1 - x) ** 4)
        assert incomplete_beta(x, 2.5, 7) == pytest.approx(1 - incomplete_beta(1 - x, 7, 2.5))


def test_welch_against_its_formula() -> None:
    a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9]
    b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2]
    # t = 1.2909 with 6.79 degrees of freedom, worked out by hand; p is between the table's 0.2 and 0.25.
    assert 0.2 < welch(a, b).p < 0.25
    assert welch(a, b).p == welch(b, a).p


def test_equal_results_do_not_differ_and_exact_ones_do() -> None:
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert paired([0.0, 0.0]).p == 1.0
    assert paired([0.005, 0.005]).p == 0.0


def test_the_spread_is_that_within_groups() -> None:
    assert pooled_spread([[1.0], [2.0]]) is None
    assert pooled_spread([[1.0, 3.0], [11.0, 13.0]]) == pytest.approx(math.sqrt(2))
    assert pooled([1.0, 3.0], [2.0]).p == 1.0


def normal(generator: random.Random, count: int, spread: float, shift: float = 0.0) -> dict[int, float]:
    """Results of ``count`` seeds."""
    return {i: math.exp(generator.gauss(shift, spread)) for i in range(count)}


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 3), (1, 4), (3, 8), (15, 15)])
def test_repeats_of_one_setting_are_seldom_called_different(first: int, second: int) -> None:
    generator = random.Random(1)
    wrong = 0
    for _ in range(1000):
        a = normal(generator, first, 0.01)
        b = {-1 - seed: value for seed, value in normal(generator, second, 0.01).items()}
        difference = compare(a, b)
        assert difference
        wrong += bool(difference.is_real)

    assert wrong <= 1000 * LEVEL * 1.8


def test_a_difference_of_three_spreads_is_seen_with_few_repeats() -> None:
    generator = random.Random(2)
    seen = 0
    for _ in range(500):
        a = normal(generator, 5, 0.01)
        b = {seed + 100: value for seed, value in normal(generator, 5, 0.01, shift=0.03).items()}
        difference = compare(a, b)
        assert difference
        assert difference.method == "groups"
        seen += bool(difference.is_real)

    assert seen >= 450


@pytest.mark.parametrize(("spread", "sides"), [(0.0066, 2), (0.0044, 1), (0.02, 2)])
def test_so_many_runs_as_are_asked_for_show_the_gap_nine_times_of_ten(spread: float, sides: int) -> None:
    gap = math.log1p(WORTH)
    count = repeats_for(gap, spread, sides)
    assert count
    generator = random.Random(6)
    seen = 0
    for _ in range(300):
        a = [generator.gauss(0, spread) for _ in range(count)]
        b = [generator.gauss(gap, spread) for _ in range(count)]
        seen += (welch(a, b) if sides == 2 else paired(b)).p < LEVEL

    assert 0.85 < seen / 300 < 0.96


def test_no_number_of_runs_is_named_beyond_what_anybody_trains() -> None:
    assert repeats_for(math.log1p(WORTH), 5.0, 2) is None
    assert repeats_for(math.log1p(WORTH), 0.0, 2) == 2


def test_seeds_of_both_sides_make_pairs_and_the_rest_is_left_out() -> None:
    assert shared_seeds([1, 2], [2, 1]) == [1, 2]
    assert shared_seeds([1, 2, 3, 4], [2, 3, 4, 5]) == [2, 3, 4]
    assert shared_seeds([1, 2, 3], [2, 3, 4]) == [], "two pairs say less than three runs of each"
    assert shared_seeds([1], [1]) == []
    base = {seed: 1.0 + 0.1 * seed for seed in range(1, 6)}
    worse = {seed: value * 1.005 for seed, value in base.items() if seed > 1} | {9: 1.0}
    difference = compare(base, worse)
    assert difference
    assert (difference.method, difference.is_real) == ("pairs", True)
    assert difference.relative == pytest.approx(0.005)


def test_pairs_of_one_seed_show_what_the_spread_hides() -> None:
    generator = random.Random(3)
    base = normal(generator, 4, 0.02)
    better = {seed: value * 0.995 * math.exp(generator.gauss(0, 0.0005)) for seed, value in base.items()}
    difference = compare(base, better)
    assert difference
    assert (difference.method, difference.is_real) == ("pairs", True)
    others = {seed + 10: value for seed, value in better.items()}
    unpaired = compare(base, others)
    assert unpaired
    assert (unpaired.method, unpaired.is_real) == ("groups", False)


@pytest.mark.parametrize(("count", "spread"), [(5, 0.01), (8, 0.003), (15, 0.01)])
def test_what_is_called_detectable_is_seen_nine_times_of_ten(count: int, spread: float) -> None:
    generator = random.Random(5)
    spreads = [paired([generator.gauss(0, spread) for _ in range(count)]).detectable for _ in range(200)]
    gap = statistics.fmean(spreads)
    seen = sum(paired([generator.gauss(gap, spread) for _ in range(count)]).p < LEVEL for _ in range(500))
    assert 0.8 < seen / 500 < 0.97


@pytest.mark.parametrize(("p", "freedom", "t"), [(0.05, 10, 2.228), (0.05, 1, 12.706), (0.01, 10, 3.169)])
def test_the_quantiles_of_students_t(p: float, freedom: float, t: float) -> None:
    assert quantile(p, freedom) == pytest.approx(t, rel=1e-3)


def test_pairs_of_curves_take_the_late_steps_that_both_have() -> None:
    first = [9.0, 9.0, 2.0, 2.0]
    second = [1.0, 1.0, 2.02, 2.02]
    assert late_ratio(first, second) == pytest.approx(math.log(1.01))
    assert late_ratio(first, second[:3]) == pytest.approx((math.log(1 / 9) + math.log(1.01)) / 2)
    assert late_ratio([], second) is None
    difference = compare_pairs([(first, second), (first, second)])
    assert difference
    assert (difference.method, difference.is_real) == ("pairs", True)
    assert compare_pairs([(first, second)]) is None


def test_a_single_run_each_has_no_verdict() -> None:
    difference = compare({1: 2.0}, {2: 2.1})
    assert difference
    assert (difference.is_real, difference.p) == (None, None)
    assert difference.relative == pytest.approx(0.05)
    assert compare({}, {1: 2.0}) is None
    assert compare({1: math.nan}, {1: 2.0}) is None


def noisy(generator: random.Random, shared: Sequence[float], scale: float) -> list[float]:
    return [value * scale * math.exp(generator.gauss(0, 0.002)) for value in shared]


def test_curves_over_the_same_batches_show_half_a_percent() -> None:
    generator = random.Random(4)
    batches = [5.0 * math.exp(generator.gauss(0, 0.03)) for _ in range(200)]
    same = compare_curves(noisy(generator, batches, 1.0), noisy(generator, batches, 1.0))
    gap = compare_curves(noisy(generator, batches, 1.0), noisy(generator, batches, 0.995))
    assert same
    assert gap
    assert (same.is_real, gap.is_real) == (False, True)
    assert gap.relative == pytest.approx(-0.005, abs=0.001)
    assert compare_curves([1.0] * 5, [1.0] * 5) is None


def test_thirty_runs_with_the_same_seeds_find_half_a_percent() -> None:
    """The spread is that of real pairs of qwen3_smoke whose learning rates differ (docs/monitoring.md)."""
    generator = random.Random(6)
    found = 0
    wrong = 0
    for _ in range(500):
        base = normal(generator, 15, 0.0066)
        noise = {seed: math.exp(generator.gauss(0, 0.0047)) for seed in base}
        equal = compare(base, {seed: value * noise[seed] for seed, value in base.items()})
        better = compare(base, {seed: value * noise[seed] * 0.995 for seed, value in base.items()})
        assert equal
        assert better
        wrong += bool(equal.is_real)
        found += bool(better.is_real)

    assert found >= 0.88 * 500
    assert wrong <= 0.05 * 500

"""Whose turn a sample is: shares that hold at every moment, whatever the weights."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.trainer.data.mixture import (
    LONGEST_CYCLE,
    EvenTurns,
    ShuffledTurns,
    cycle_of,
    exact_counts,
    rounded_counts,
    turns_in_cycle,
)


def largest_error(weights: list[float], samples: int) -> float:
    """The most that a source is ahead of or behind its share after any of the first ``samples``."""
    turns = EvenTurns(weights)
    drawn: Counter[int] = Counter()
    worst = 0.0
    for number in range(samples):
        source, before = turns.locate(number)
        assert before == drawn[source]  # a source's samples ascend, and none is left out
        drawn[source] += 1
        for index, weight in enumerate(weights):
            share = (number + 1) * weight / sum(weights)
            worst = max(worst, abs(drawn[index] - share))
    return worst


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [0.7, 0.3],
        [0.999, 0.001],
        [1, 1, 1],
        [0.5, 0.3, 0.2],
        [0.9, 0.05, 0.03, 0.02],
        [1, 2, 3, 4, 5, 6, 7, 8],
    ],
)
def test_every_source_has_its_share_to_one_sample_at_every_moment(weights: list[float]) -> None:
    assert largest_error(weights, 20_000) < 1


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_shares_hold_for_any_weights(weights: list[int]) -> None:
    assert largest_error([float(weight) for weight in weights], 400) < 1


def test_weights_with_many_digits_hold_over_twenty_thousand_samples() -> None:
    assert largest_error([0.123456789, 0.876543211], 20_000) < 1


def test_a_cycle_has_every_turn_of_every_source() -> None:
    order = cycle_of([5, 3, 2])
    assert Counter(order.tolist()) == {0: 5, 1: 3, 2: 2}


def test_decimal_weights_are_taken_at_their_word() -> None:
    assert exact_counts([0.7, 0.3]) == (7, 3)
    assert exact_counts([3, 1]) == (3, 1)
    assert exact_counts([0.1, 0.2, 0.7]) == (1, 2, 7)
    assert exact_counts([1e-3, 1]) == (1, 1000)


def test_weights_that_need_a_longer_cycle_are_rounded_to_it() -> None:
    weights = [0.123456789, 0.876543211]
    assert exact_counts(weights) is None
    counts = turns_in_cycle(weights)
    assert sum(counts) == LONGEST_CYCLE
    assert counts[0] / LONGEST_CYCLE == pytest.approx(weights[0], abs=1 / LONGEST_CYCLE)


def test_a_source_is_never_without_a_turn() -> None:
    assert rounded_counts([1e9, 1e-9], 1 << 16) == (1 << 16, 1)
    assert min(rounded_counts([1.0] * 3 + [1e-9] * 3, 8)) == 1


def test_turns_are_located_at_once_at_any_distance() -> None:
    turns = EvenTurns([0.7, 0.3])
    source, before = turns.locate(10**12)
    share = (0.7, 0.3)[source] * 10**12
    assert abs(before - share) < 1


def test_the_first_order_shuffles_its_turns() -> None:
    turns = ShuffledTurns([0.7, 0.3], "fingerprint", 1337)
    cycle = [turns.locate(number) for number in range(1 << 16)]
    assert len(set(cycle)) == 1 << 16
    small = [before for source, before in cycle if source == 1]
    assert sorted(small) == list(range(len(small)))
    assert small != sorted(small)

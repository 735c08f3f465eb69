"""The search finds the largest size that fits in few trials, and one failure hides nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.sweeping.plan import Arm, Outcome, Plan, Status, Trial
from jobctl.jobs.sweeping.search import PATIENCE, TIMED, fits, next_trial

Judge = Callable[[Trial], Status]


def search(plan: Plan, judge: Judge) -> list[Outcome]:
    """Do the first arm of ``plan`` to its end."""
    outcomes: list[Outcome] = []
    while (trial := next_trial(plan, 0, outcomes)) is not None:
        outcomes.append(Outcome(trial=trial, attempt=1, status=judge(trial)))
        assert len(outcomes) < 100

    return outcomes


def plan_of(sequences: int, guess: int = 1, batch_sizes: tuple[int, ...] = ()) -> Plan:
    return Plan(arms=(Arm(name="", guess=guess, batch_sizes=batch_sizes),), sequences=sequences)


def sizes(outcomes: list[Outcome], purpose: str) -> list[int]:
    return [outcome.trial.batch_size for outcome in outcomes if outcome.trial.purpose == purpose]


def up_to(largest: int) -> Judge:
    return lambda trial: "fits" if trial.batch_size <= largest else "memory"


@given(largest=st.integers(0, 300), guess=st.integers(1, 300), sequences=st.integers(1, 256))
def test_the_largest_is_found_whatever_the_guess(largest: int, guess: int, sequences: int) -> None:
    outcomes = search(plan_of(sequences, guess), up_to(largest))
    assert max(fits(outcomes), default=0) == min(largest, sequences)
    tried = sizes(outcomes, "fit")
    assert len(set(tried)) == len(tried) <= 2 * math.log2(sequences) + 9


@pytest.mark.parametrize("wrong_by", [-2, -1, 0, 1, 2])
def test_a_good_guess_needs_few_trials(wrong_by: int) -> None:
    outcomes = search(plan_of(128, guess=31 + wrong_by), up_to(31))
    assert len(sizes(outcomes, "fit")) <= 5


def test_sizes_that_divide_the_batch_are_timed_the_largest_first() -> None:
    outcomes = search(plan_of(128, guess=30), up_to(31))
    assert sizes(outcomes, "time") == [16, 8, 4]
    assert len(sizes(outcomes, "time")) == TIMED


def test_a_size_without_room_when_it_is_timed_gives_its_place_away() -> None:
    def judge(trial: Trial) -> Status:
        return "memory" if trial.purpose == "time" and trial.batch_size == 16 else up_to(31)(trial)

    assert sizes(search(plan_of(128, guess=30), judge), "time") == [16, 8, 4, 2]


def test_a_size_that_fails_hides_no_other() -> None:
    outcomes = search(
        plan_of(24, batch_sizes=(2, 3, 4, 8)), lambda trial: "failed" if trial.batch_size == 3 else "fits"
    )
    assert [outcome.status for outcome in outcomes] == ["fits", "failed", "fits", "fits"]


def test_an_arm_that_only_fails_is_given_up() -> None:
    outcomes = search(plan_of(1024, guess=900), lambda trial: "failed")
    assert len(outcomes) == PATIENCE


def test_nothing_fits() -> None:
    outcomes = search(plan_of(64, guess=20), up_to(0))
    assert fits(outcomes) == set()
    assert sizes(outcomes, "fit")[-1] == 1
    assert sizes(outcomes, "time") == []


def test_what_cannot_be_is_not_tried() -> None:
    plan = Plan(arms=(Arm(name="", problem="it has no float8"),), sequences=8)
    assert next_trial(plan, 0, []) is None

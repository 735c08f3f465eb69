"""The typed history: what follows from its entries."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from jobctl.jobs.monitoring.history import History, Interval, Step, column, finite, kept, number, whole


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1.0), (2.5, 2.5), ("3", 3.0), ("inf", math.inf), ("-inf", -math.inf)]
)
def test_numbers_of_a_log(value: object, expected: float) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", ["nan", "n/a", None, True, [], {}])
def test_what_is_no_number_is_nan(value: object) -> None:
    assert math.isnan(number(value))
    assert whole(value) == 0


def test_a_column_is_of_floats_whatever_the_log_wrote() -> None:
    steps = [Step(1, loss=1.0), Step(2, loss="nan"), Step(3, loss=None), Step(4, loss=2)]
    assert finite(column(steps, "loss")) == [1.0, 2.0]
    assert column(steps[:1], "loss") == [1.0]


def test_entries_after_a_step_are_dropped() -> None:
    steps = [Step(n) for n in (1, 2, 3, 5)]
    assert [s.iter for s in kept(steps, 3)] == [1, 2, 3]
    assert kept(steps, 0) == []
    assert kept(steps, 9) == steps


def test_tokens_by_samples_or_by_rate() -> None:
    told = History(name="r", path=Path(), config={"block_size": 128}, steps=[Step(10, samples=80)])
    assert told.tokens == 80 * 128
    rated = History(
        name="r", path=Path(), steps=[Step(10)], intervals=[Interval(10, dt_ms=500.0, tokens_per_sec=2e3)]
    )
    assert rated.tokens == 10 * 1000
    assert History(name="r", path=Path()).tokens == 0

"""Every second of a start has a cause, and they add up."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.goodput import CAUSES
from jobctl.trainer.reporting.ledger import Ledger


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_no_cause_takes_went_to_the_steps() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.spending("loading"):
        clock.now += 5
    clock.now += 20
    ledger.started()
    clock.now += 60
    ledger.started()
    with ledger.spending("evaluation"):
        clock.now += 10

    record = ledger.close_interval(40, 5120, {"data": 4.0, "communication": 6.0}, steps=40)
    assert record["seconds"] == {
        "steps": 50.0, "startup": 20.0, "loading": 5.0, "data": 4.0, "communication": 6.0, "evaluation": 10.0
    }  # fmt: skip
    assert (record["iter"], record["tokens"], record["at"]) == (40, 5120, 1095.0)
    assert set(record["seconds"]) <= set(CAUSES)


def test_intervals_follow_each_other_without_a_gap() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.started()
    clock.now += 7
    first = ledger.close_interval(1, 10, {}, steps=1)
    clock.now += 3
    with ledger.spending("checkpoint"):
        clock.now += 2
    second = ledger.close_interval(1, 10, {}, steps=0)
    assert first["seconds"] == {"steps": 7.0}
    assert second["seconds"] == {"checkpoint": 2.0, "other": 3.0}


def test_waits_that_two_clocks_have_measured_do_not_exceed_the_interval() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    clock.now += 10
    record = ledger.close_interval(1, 10, {"data": 9.0, "communication": 11.0}, steps=1)
    assert sum(record["seconds"].values()) == pytest.approx(10.0)


def test_a_block_that_fails_has_spent_its_time_all_the_same() -> None:
    clock = Clock()
    ledger = Ledger(clock)

    def fail() -> None:
        with ledger.spending("evaluation"):
            clock.now += 3
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert ledger.close_interval(1, 10, {}, steps=1)["seconds"] == {"evaluation": 3.0}

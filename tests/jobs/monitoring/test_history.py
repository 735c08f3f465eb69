"""The typed history: what follows from its entries."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from jobctl.jobs.monitoring.history import (
    Began,
    Evaluation,
    Gradients,
    History,
    Interval,
    Joined,
    Line,
    Moment,
    RankTimes,
    Resumed,
    Save,
    SkippedSave,
    Start,
    Step,
    Summary,
    column,
    finite,
    kept,
    known,
    number,
    whole,
)


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


def joined(*attempts: list[Line], began: float | None = None) -> History:
    """Return the history of these logs, the oldest first."""
    history = History(name="r", path=Path())
    rows = Joined(history)
    for place, lines in enumerate(attempts):
        rows.add(f"log-{place}", began, lines)

    return history


def steps(first: int, last: int) -> list[Line]:
    return [Step(n, loss=float(n)) for n in range(first, last + 1)]


def test_a_resumption_replaces_the_steps_after_its_checkpoint_and_counts_them() -> None:
    history = joined(steps(1, 9), [Resumed(6), *steps(7, 8)])
    assert [step.iter for step in history.steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    first, second = history.segments
    assert (first.resumed_from, first.last, first.repeated) == (None, 9, 0)
    assert (second.resumed_from, second.last, second.repeated) == (6, 8, 3)


def test_every_kind_of_entry_after_the_checkpoint_is_rolled_back() -> None:
    def entries(step: int) -> list[Line]:
        return [
            Step(step), Interval(step), Evaluation(step), Save(step), SkippedSave(step), Gradients(step),
            Moment(step), RankTimes(step),
        ]  # fmt: skip

    history = joined([*entries(5), *entries(9)], [Resumed(5)])
    lists = [
        history.steps, history.intervals, history.evaluations, history.saves, history.skipped_saves,
        history.gradients, history.moments, history.rank_times,
    ]  # fmt: skip
    assert [[entry.iter for entry in entries_] for entries_ in lists] == [[5]] * 8  # type: ignore[attr-defined]


def test_an_attempt_that_begins_anew_replaces_everything() -> None:
    history = joined(steps(1, 9), steps(1, 3))
    assert [step.iter for step in history.steps] == [1, 2, 3]
    assert (history.segments[1].resumed_from, history.segments[1].repeated) == (None, 9)


def test_a_checkpoint_after_the_last_logged_step_repeats_nothing() -> None:
    """The last lines of a killed attempt may be lost, and its checkpoint is not."""
    history = joined(steps(1, 4), [Resumed(6), *steps(7, 8)])
    assert [step.iter for step in history.steps] == [1, 2, 3, 4, 7, 8]
    assert history.segments[1].repeated == 0


def test_an_attempt_that_logged_no_step_is_at_its_checkpoint() -> None:
    history = joined(steps(1, 9), [Resumed(6)])
    assert (history.segments[1].last, history.last_step) == (6, 6)
    assert joined([]).segments[0].last == 0


@pytest.mark.parametrize(("place", "resumed"), [(0, 6), (2, 6), (3, None)])
def test_a_resumption_is_told_only_at_the_top_of_a_log(place: int, resumed: int | None) -> None:
    """Further below it would be a line of another program."""
    lines: list[Line] = [Began(1.0), Start(), Moment(0), Moment(0)]
    lines.insert(place, Resumed(6))
    assert joined(steps(1, 9), lines).segments[1].resumed_from == resumed


@pytest.mark.parametrize(
    ("lines", "began"),
    [
        ([Began(5.0)], 5.0),
        ([Began()], 7.0),
        ([Start()], 7.0),
        ([Start(), Moment(1), Moment(2), Began(5.0)], 7.0),
    ],
)
def test_the_launchers_time_counts_before_that_of_the_file(lines: list[Line], began: float) -> None:
    assert joined(lines, began=7.0).segments[0].began == began


def test_the_end_of_an_earlier_attempt_is_no_end_of_the_run() -> None:
    stopped = Summary(4, status="stopped", reason="time")
    history = joined([*steps(1, 4), stopped], [Resumed(4), *steps(5, 6)])
    assert history.summary is None
    assert [(s.status, s.reason) for s in history.segments] == [("stopped", "time"), ("", "")]
    assert joined([*steps(1, 4), stopped]).summary == stopped
    assert joined([stopped, Step(5)]).summary is None, "it logged on"


def test_the_choices_of_the_newest_attempt_count() -> None:
    history = joined(
        [Start("r", {"max_iters": 5}, {"world_size": 8})], [Start("r", {"max_iters": 9}, {"world_size": 2})]
    )
    assert (history.max_iters, history.world_size) == (9, 2)


@pytest.mark.parametrize(
    ("startup", "config", "size"),
    [
        ({"world_size": 8}, {"world_size": 2}, 8),
        ({}, {"world_size": 2}, 2),
        ({"world_size": "n/a"}, {}, 1),
        ({}, {}, 1),
    ],
)
def test_a_run_has_at_least_one_rank(
    startup: dict[str, object], config: dict[str, object], size: int
) -> None:
    assert History(name="r", path=Path(), startup=startup, config=config).world_size == size


def test_a_model_is_named_by_the_start_or_else_by_the_settings() -> None:
    assert History(name="r", path=Path(), startup={"model": "a"}, config={"model_name": "b"}).model == "a"
    assert History(name="r", path=Path(), config={"model_name": "b"}).model == "b"
    assert History(name="r", path=Path()).model == ""


def test_tokens_of_a_step_are_told_or_the_middle_of_speed_times_duration() -> None:
    speeds = [(1e3, 1000.0), (2e3, 1000.0), (9e9, 1000.0), (math.nan, 1000.0), (5.0, math.nan)]
    intervals = [Interval(n, dt_ms=dt, tokens_per_sec=speed) for n, (speed, dt) in enumerate(speeds)]
    assert History(name="r", path=Path(), intervals=intervals).tokens_per_step == 2000.0
    told = History(name="r", path=Path(), intervals=intervals, startup={"tokens_per_iter": 512})
    assert told.tokens_per_step == 512.0


def test_an_interval_of_unknown_length_takes_no_time() -> None:
    assert Interval(10, steps=4, dt_ms=250.0).seconds == 1.0
    assert Interval(10, steps=4).seconds == 0.0


@pytest.mark.parametrize(("value", "result"), [(1.5, 1.5), (0.0, 0.0), (math.nan, None), (-math.inf, None)])
def test_what_is_not_finite_is_not_known(value: float, result: float | None) -> None:
    assert known(value) == result

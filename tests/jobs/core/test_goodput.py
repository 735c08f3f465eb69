import pytest

from jobctl.jobs.core.goodput import CAUSES, Goodput, Interval, Span, Start, account, lost_share


def interval(iter: int, at: float, **seconds: float) -> Interval:
    return Interval(iter=iter, at=at, seconds=seconds, tokens=100 * iter)


def whole(goodput: Goodput | None) -> Goodput:
    assert goodput
    assert sum(goodput.seconds.values()) == pytest.approx(goodput.wall_seconds, rel=1e-9)
    assert set(goodput.seconds) <= set(CAUSES)
    return goodput


def test_one_attempt_has_a_cause_for_every_second() -> None:
    start = Start(
        attempt=1,
        launched=130.0,
        ended=True,
        intervals=(
            interval(1, 150.0, startup=10.0, loading=5.0),
            interval(11, 200.0, steps=40.0, data=4.0, communication=1.0, checkpoint=2.0, evaluation=3.0),
        ),
    )
    goodput = whole(account(100.0, [Span(number=1, start=120.0, end=204.0)], [start]))
    assert goodput.wall_seconds == 104.0
    assert goodput.seconds == {
        "queue": 20.0,
        "startup": 25.0,  # 15 of them before the process could measure
        "loading": 5.0,
        "steps": 40.0,
        "data": 4.0,
        "communication": 1.0,
        "checkpoint": 2.0,
        "evaluation": 3.0,
        "other": 4.0,
    }
    assert goodput.share == pytest.approx(40 / 104)
    assert goodput.tokens_per_second == pytest.approx(1100 / 104)


def test_steps_after_the_checkpoint_of_a_killed_attempt_are_done_again() -> None:
    first = Start(
        attempt=1,
        launched=0.0,
        intervals=(interval(10, 100.0, startup=20.0, steps=80.0), interval(20, 180.0, steps=70.0, data=10.0)),
    )
    second = Start(
        attempt=2,
        launched=250.0,
        resumed=15,
        ended=True,
        intervals=(interval(30, 400.0, startup=30.0, steps=120.0),),
    )
    spans = [Span(number=1, start=0.0, end=190.0), Span(number=2, start=240.0, end=400.0)]
    goodput = whole(account(None, spans, [first, second]))
    # Half of the second interval, and the ten seconds after it that no interval tells of.
    assert goodput.seconds["repeated"] == pytest.approx(40.0 + 10.0)
    assert goodput.seconds["steps"] == pytest.approx(80 + 35 + 120)
    assert goodput.seconds["data"] == pytest.approx(5.0)
    assert goodput.seconds["requeue"] == pytest.approx(50.0)
    assert goodput.tokens == 3000
    assert goodput.wall_seconds == 400.0


def test_a_restart_in_place_is_told_from_a_requeue() -> None:
    starts = [
        Start(attempt=1, launched=0.0, intervals=(interval(10, 50.0, steps=50.0),)),
        Start(
            attempt=1,
            launched=64.0,
            died=60.0,
            resumed=10,
            intervals=(interval(20, 120.0, startup=6.0, steps=50.0),),
        ),
    ]
    goodput = whole(account(None, [Span(number=1, start=0.0, end=120.0)], starts))
    # Four seconds from the death to the new processes, and their start-up of six.
    assert goodput.seconds["restart"] == pytest.approx(10.0)
    assert goodput.seconds.get("startup", 0.0) == pytest.approx(0.0)
    assert goodput.seconds["repeated"] == pytest.approx(10.0)
    assert "requeue" not in goodput.seconds
    assert (goodput.attempts, goodput.starts) == (1, 2)


def test_a_hang_counts_from_the_last_progress() -> None:
    start = Start(attempt=1, launched=0.0, intervals=(interval(10, 50.0, steps=50.0),))
    goodput = whole(account(None, [Span(number=1, start=0.0, end=1900.0, hung_since=55.0)], [start]))
    assert goodput.seconds["hang"] == pytest.approx(1845.0)
    assert goodput.seconds["repeated"] == pytest.approx(5.0)


@pytest.mark.parametrize("skew", [-30.0, 30.0])
def test_clocks_that_differ_lose_and_invent_no_second(skew: float) -> None:
    spans = [Span(number=1, start=0.0, end=100.0), Span(number=2, start=100.0, end=200.0)]
    starts = [
        Start(attempt=1, launched=1.0, intervals=(interval(10, 99.0 + skew, startup=8.0, steps=90.0),)),
        Start(attempt=2, launched=101.0, resumed=10, intervals=(interval(20, 199.0, steps=98.0),)),
    ]
    assert whole(account(None, spans, starts)).wall_seconds == 200.0


def test_an_attempt_without_a_word_of_its_end_loses_no_time() -> None:
    spans = [Span(number=1, start=0.0), Span(number=2, start=100.0, end=200.0)]
    starts = [
        Start(attempt=1, launched=0.0, intervals=(interval(10, 60.0, steps=60.0),)),
        Start(attempt=2, launched=100.0, resumed=10, intervals=(interval(20, 200.0, steps=100.0),)),
    ]
    goodput = whole(account(None, spans, starts))
    assert goodput.seconds == {"steps": 160.0, "requeue": 40.0}


def test_a_run_at_work_is_known_up_to_its_last_interval() -> None:
    span = Span(number=1, start=10.0)
    assert whole(account(0.0, [span], [], now=25.0)).seconds == {"queue": 10.0, "startup": 15.0}
    start = Start(attempt=1, launched=10.0, intervals=(interval(10, 60.0, steps=50.0),))
    assert whole(account(0.0, [span], [start], now=90.0)).wall_seconds == 60.0


def test_a_run_without_scripts_has_the_attempts_that_its_log_tells_of() -> None:
    starts = [
        Start(attempt=1, launched=5.0, intervals=(interval(10, 55.0, steps=50.0),)),
        Start(attempt=2, launched=75.0, resumed=10, intervals=(interval(20, 100.0, steps=25.0),)),
    ]
    assert whole(account(None, [], starts)).seconds == {"steps": 75.0, "requeue": 20.0}
    assert account(0.0, [], []) is None


def test_the_lines_name_the_share_and_the_largest_cause_first() -> None:
    goodput = Goodput(
        wall_seconds=200.0,
        seconds={"steps": 100.0, "queue": 20.0, "startup": 80.0},
        tokens=4000,
        attempts=1,
        starts=1,
    )
    lines = goodput.lines()
    assert lines[0] == "goodput 50.0% of 3 min 20 s; 20 tokens/s over the whole time"
    assert [line.split()[0] for line in lines[1:]] == ["40.0%", "10.0%"]
    assert sum(goodput.shares().values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("before", "after", "kept", "share"),
    [(0, 10, 10, 0.0), (0, 10, 5, 0.5), (10, 20, 5, 1.0), (10, 10, 5, 0.0), (0, 10, float("inf"), 0.0)],
)
def test_the_share_of_steps_that_are_lost(before: int, after: int, kept: float, share: float) -> None:
    assert lost_share(before, after, kept) == pytest.approx(share)


def test_a_restart_in_place_that_dies_before_its_first_step_costs_a_restart_and_a_start_up() -> None:
    starts = [
        Start(attempt=1, launched=0.0, intervals=(interval(10, 50.0, steps=50.0),)),
        Start(attempt=1, launched=64.0, died=60.0, resumed=10),
    ]
    goodput = whole(account(None, [Span(number=1, start=0.0, end=70.0)], starts))
    assert goodput.seconds == {"steps": 50.0, "repeated": 10.0, "restart": 4.0, "startup": 6.0}


def test_an_interval_that_names_no_part_is_time_of_an_unknown_use() -> None:
    """An older log has none. Its first interval holds the start-up."""
    start = Start(attempt=1, launched=0.0, ended=True, intervals=(interval(10, 30.0), interval(20, 50.0)))
    goodput = whole(account(None, [Span(number=1, start=0.0, end=50.0)], [start]))
    assert goodput.seconds == {"startup": 30.0, "other": 20.0}
    assert goodput.tokens == 2000


def test_a_part_of_a_later_version_is_time_of_an_unknown_use() -> None:
    start = Start(
        attempt=1, launched=0.0, ended=True, intervals=(interval(10, 50.0, steps=30.0, dreaming=20.0),)
    )
    assert whole(account(None, [Span(number=1, start=0.0, end=50.0)], [start])).seconds == {
        "steps": 30.0,
        "other": 20.0,
    }


def test_tokens_of_steps_that_are_done_again_do_not_count() -> None:
    """The second attempt begins at step 10 and has logged nothing yet."""
    starts = [
        Start(
            attempt=1,
            launched=0.0,
            intervals=(interval(10, 50.0, steps=50.0), interval(20, 90.0, steps=40.0)),
        ),
        Start(attempt=2, launched=100.0, resumed=10),
    ]
    spans = [Span(number=1, start=0.0, end=90.0), Span(number=2, start=100.0, end=110.0)]
    goodput = whole(account(None, spans, starts))
    assert (goodput.tokens, goodput.seconds["repeated"]) == (1000, 40.0)


def test_an_attempt_that_begins_anew_makes_all_before_it_useless() -> None:
    starts = [
        Start(attempt=1, launched=0.0, intervals=(interval(20, 90.0, steps=90.0),)),
        Start(attempt=2, launched=90.0, resumed=0, intervals=(interval(5, 100.0, steps=10.0),)),
    ]
    spans = [Span(number=1, start=0.0, end=90.0), Span(number=2, start=90.0, end=100.0)]
    goodput = whole(account(None, spans, starts))
    assert (goodput.seconds, goodput.tokens) == ({"steps": 10.0, "repeated": 90.0}, 500)


def test_a_run_of_no_time_has_no_share_and_no_rate() -> None:
    goodput = account(5.0, [Span(number=1, start=5.0, end=5.0)], [])
    assert goodput is not None
    assert (goodput.wall_seconds, goodput.share, goodput.tokens_per_second, goodput.tokens) == (
        0.0,
        0.0,
        0.0,
        0,
    )


def test_an_attempt_that_ended_takes_no_more_time_however_late_it_is_asked() -> None:
    span = Span(number=1, start=10.0, end=25.0)
    assert whole(account(0.0, [span], [], now=900.0)).seconds == {"queue": 10.0, "startup": 15.0}


def test_a_restart_whose_death_nobody_recorded_repeats_the_time_up_to_its_launch() -> None:
    starts = [
        Start(attempt=1, launched=0.0, intervals=(interval(10, 50.0, steps=50.0),)),
        Start(
            attempt=1, launched=64.0, resumed=10, intervals=(interval(20, 120.0, startup=6.0, steps=50.0),)
        ),
    ]
    goodput = whole(account(None, [Span(number=1, start=0.0, end=120.0)], starts))
    assert goodput.seconds == {"steps": 100.0, "repeated": 14.0, "startup": 6.0}


def test_time_between_two_intervals_is_of_an_unknown_use_and_no_start_up() -> None:
    intervals = (interval(10, 50.0, steps=50.0), interval(20, 120.0, steps=60.0))
    start = Start(attempt=1, launched=0.0, ended=True, intervals=intervals)
    goodput = whole(account(None, [Span(number=1, start=0.0, end=120.0)], [start]))
    assert goodput.seconds == {"steps": 110.0, "other": 10.0}

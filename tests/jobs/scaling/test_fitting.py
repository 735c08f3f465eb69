"""A fit finds the law that made its points, says how sure it is, and names what is far off."""

from __future__ import annotations

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.fitting import fit, law_document
from jobctl.jobs.scaling.law import Law
from tests.jobs.scaling.synthetic import TRUTH, points


def test_exact_points_give_the_exact_law() -> None:
    made = fit(points(60, 0.0, seed=1), resamples=20)
    for name, value in TRUTH.items():
        assert made.values[name] == pytest.approx(value, rel=1e-3)
    assert made.outliers == ()
    assert made.scatter < 1e-4


def test_as_many_points_as_hoffmann_had_give_a_and_b_within_their_noise() -> None:
    made = fit(points(240, 0.002, seed=2), resamples=40)
    assert made.values["alpha"] == pytest.approx(TRUTH["alpha"], rel=0.03)
    assert made.values["beta"] == pytest.approx(TRUTH["beta"], rel=0.03)
    assert made.scatter == pytest.approx(0.002, rel=0.25)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # bench.scaling_coverage does this 500 times. Of 100 intervals at 90%, fewer than 80 would be no accident.
    held = 0
    for seed in range(20):
        made = fit(points(60, 0.005, seed), resamples=80, seed=seed)
        held += sum(
            made.intervals[name][0] <= value <= made.intervals[name][1] for name, value in TRUTH.items()
        )

    assert 78 <= held <= 100


def test_outliers_are_named_and_left_out() -> None:
    clean = points(80, 0.002, seed=3)
    wrong = [
        msgspec.structs.replace(point, loss=point.loss * 1.3, name=f"bad {index}") if index < 3 else point
        for index, point in enumerate(clean)
    ]
    made = fit(wrong, resamples=20)
    assert set(made.outliers) == {"bad 0", "bad 1", "bad 2"}
    assert made.points == 77
    assert made.values["B"] == pytest.approx(fit(clean, resamples=20).values["B"], rel=0.1)

    kept = fit(wrong, resamples=20, keep=True)
    assert kept.points == 80
    assert set(kept.outliers) == set(made.outliers)


@pytest.mark.parametrize("seed", range(3))
def test_far_outliers_hide_no_near_ones(seed: int) -> None:
    """The far ones draw the first fit towards them. The near ones show only once it is made without the far ones."""
    clean = points(80, 0.002, seed)
    shortest = sorted(range(80), key=lambda index: clean[index].tokens)
    factors = dict(zip(shortest, (1.5, 1.4, 1.3, 1.2, 1.05, 1.03, 1.02, 1.02), strict=False))
    wrong = [
        msgspec.structs.replace(point, loss=point.loss * factors.get(index, 1.0), name=str(index))
        for index, point in enumerate(clean)
    ]
    assert set(fit(wrong, resamples=20).outliers) == {str(index) for index in factors}


def test_the_same_seed_gives_the_same_intervals() -> None:
    first = fit(points(40, 0.005, seed=4), resamples=30, seed=7)
    assert fit(points(40, 0.005, seed=4), resamples=30, seed=7) == first
    assert fit(points(40, 0.005, seed=4), resamples=30, seed=8).intervals != first.intervals


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [
        (5, {}, "5 points cannot fit five numbers"),
        (20, {"loss": -1.0}, "loss: every point needs a positive number"),
        (20, {"parameters": 1e9}, "too narrow for an exponent"),
        (20, {"tokens": float("nan")}, "tokens: every point needs"),
    ],
)
def test_points_that_say_nothing_are_refused(count: int, changes: dict[str, float], message: str) -> None:
    given = [msgspec.structs.replace(point, **changes) for point in points(count, 0.005, seed=5)]
    with pytest.raises(UserError, match=message):
        fit(given, resamples=20)


def test_a_fit_becomes_a_law_with_its_samples() -> None:
    made = fit(points(40, 0.005, seed=6), resamples=25)
    law = msgspec.convert(law_document(made, "runs"), Law)
    assert len(law.sampled()) == 25
    assert law.loss(1e9, 2e10) == pytest.approx(
        made.values["E"]
        + made.values["A"] / 1e9 ** made.values["alpha"]
        + made.values["B"] / 2e10 ** made.values["beta"],
        rel=1e-5,
    )

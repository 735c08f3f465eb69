"""The bounds of the checks of learning: what is near a fault and is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.monitoring.checks.faults import curve_of, loss_of_text, started
from tests.jobs.monitoring.checks.test_diagnosis import findings


@pytest.mark.parametrize(
    "loss",
    [
        lambda step: loss_of_text(step) + (6.0 if step in (200, 201, 202) else 0.0),
        lambda step: max(3.3, loss_of_text(step)),
        lambda step: 10.8 if step < 5 else 7.0 - step / 1000,
    ],
    ids=["a spike that heals", "a plateau", "a steep beginning"],
)
def test_curves_that_are_well(tmp_path: Path, loss: Callable[[int], float]) -> None:
    curve_of(loss)(tmp_path)
    assert findings(tmp_path) == []


def test_a_short_test_of_a_long_recipe_is_meant_so(tmp_path: Path) -> None:
    curve_of(loss_of_text, steps=50, warmup_iters=2000)(tmp_path)
    assert findings(tmp_path) == []


def test_continued_weights_may_begin_low(tmp_path: Path) -> None:
    curve_of(lambda n: 3.1 + 1.0 / n, init_from="/models/weights")(tmp_path)
    assert findings(tmp_path) == []


@pytest.mark.parametrize("rate", [3e-5, 3e-4, 1e-3])
def test_usual_learning_rates(tmp_path: Path, rate: float) -> None:
    started(learning_rate=rate)(tmp_path)
    assert findings(tmp_path) == []


def test_byte_models_have_low_losses_by_nature(tmp_path: Path) -> None:
    curve_of(lambda n: 0.9 + 4.0 / n**0.5, vocab_size=256)(tmp_path)
    assert findings(tmp_path) == []

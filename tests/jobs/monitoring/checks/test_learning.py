"""The bounds of the checks of learning: what is near a fault and is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.monitoring.checks.faults import curve_of, loss_of_text, started
from tests.jobs.monitoring.checks.test_diagnosis import findings
from tests.jobs.monitoring.runs import start_line, step_line, training_lines, write_log


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


def test_the_evidence_shows_a_gradient_that_is_a_number_in_four_digits(tmp_path: Path) -> None:
    lines = training_lines(range(1, 101), loss=loss_of_text)
    bad = step_line(101, "nan", grad_norm=10.831619262695312, skipped=True)
    write_log(tmp_path, [start_line(), *lines, bad])
    (finding,) = [f for f in findings(tmp_path) if f.check == "loss_not_a_number"]
    assert finding.evidence == "1 steps, the first is 101: loss nan, gradient norm 10.8316"


def test_steps_of_other_tools_that_log_no_gradient_norm_are_well(tmp_path: Path) -> None:
    lines = [{"kind": "iteration", "iter": step, "loss": 3.0 - step / 100} for step in range(1, 21)]
    write_log(tmp_path, [start_line(), *lines])
    assert "loss_not_a_number" not in [finding.check for finding in findings(tmp_path)]

from __future__ import annotations

import math

import msgspec
import pytest

from jobctl.trainer.reporting.records import iteration_record, number


@pytest.mark.parametrize(
    ("value", "written"),
    [(2.5, 2.5), (-1.0, -1.0), (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "nan")],
)
def test_what_json_has_no_number_for_is_text(value: float, written: float | str) -> None:
    assert number(value) == written


def test_a_line_of_a_bad_step_is_json_and_names_its_samples() -> None:
    line = iteration_record(step=3, rate=1e-3, samples=24, loss=math.nan, norm=math.inf, skipped=True)
    assert msgspec.json.decode(msgspec.json.encode(line)) == {
        "kind": "iteration",
        "iter": 3,
        "loss": "nan",
        "lr": 1e-3,
        "grad_norm": "inf",
        "samples": 24,
        "skipped": True,
    }

"""Lines and rows of a look at a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.monitoring.glance_text import after_the_fall, curve, line, progress, rows
from tests.jobs.monitoring.runs import start_line, training_lines, write_attempt, write_log
from tests.jobs.monitoring.test_glance import going, look

SPENT = Goodput(
    wall_seconds=100.0, seconds={"steps": 97.0, "queue": 3.0}, tokens=98_000, attempts=1, starts=1
)


def test_one_line_says_all_that_matters(tmp_path: Path) -> None:
    write_attempt(going(tmp_path), 1)
    text = line(look(tmp_path, goodput=SPENT))
    assert "running  step 100/200 (50%)  loss 3.7960" in text
    assert (
        "MFU 60.0% now  980 tokens/s  10,240 tokens/s in steps now  grad 1.00  lr 3.00e-04  00:00:10 left"
        in text
    )


def test_rows_leave_out_what_is_unknown(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), *training_lines([1], timing=lambda step: {"mfu": math.nan})])
    names = [name for name, _ in rows(look(tmp_path))]
    assert "MFU now" not in names
    assert "goodput" not in names


def test_the_rate_of_the_run_is_not_the_rate_of_its_steps(tmp_path: Path) -> None:
    shown = rows(look(going(tmp_path), goodput=SPENT))
    assert ("tokens/s", "980 over the whole time") in shown
    assert ("goodput", "97.0% of the wall-clock time") in shown
    assert ("in steps now", "10,240 tokens/s") in shown


def test_a_log_that_does_not_say_how_long_it_took_has_the_rate_of_its_steps_alone(tmp_path: Path) -> None:
    document = tmp_path / "run_guide.json"
    iterations = [{"iter": step, "loss": 9.0, "dt_ms": 100.0, "tokens_per_sec": 5000.0} for step in (1, 2)]
    document.write_text(json.dumps({"training_iterations": iterations}))
    seen = look(document)
    assert "tokens/s" not in dict(rows(seen))
    assert "  5,000 tokens/s in steps" in line(seen)


def test_the_bar_is_as_long_as_it_is_far(tmp_path: Path) -> None:
    write_attempt(going(tmp_path), 1)
    text = progress(look(tmp_path), 10)
    assert text.startswith("█████░░░░░ 50.0%  step 100 of 200, 00:00:10 left")


def test_a_long_curve_has_few_points_and_no_holes() -> None:
    xs, ys = curve(list(range(10_000)), [math.nan if x % 100 == 0 else 1.0 for x in range(10_000)])
    assert 399 <= len(xs) <= 400
    assert set(ys) == {1.0}
    assert curve([], []) == ([], [])


def test_the_first_fall_of_a_loss_is_left_out() -> None:
    xs, _ = after_the_fall(list(map(float, range(100))), [0.0] * 100)
    assert xs[0] == 5.0
    assert after_the_fall([1.0], [2.0]) == ([1.0], [2.0])

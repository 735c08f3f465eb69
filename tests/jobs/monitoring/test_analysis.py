"""The guide's analysis against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.amounts import short_count
from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.monitoring.analysis import Analysis, analyse, final_loss, rows, text
from jobctl.jobs.monitoring.document import read_document
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.monitoring.opening import open_run
from tests.jobs.monitoring.runs import start_line, training_lines, write_attempt, write_log, write_run
from tests.jobs.monitoring.test_document import entry, write


def analysed(run: Path, **options: Any) -> Analysis:
    opened = open_run(str(run), run)
    return analyse(opened.log.read(), opened.records().attempts, **options)


def slow_start(step: int) -> dict[str, Any]:
    """The first interval carries compilation."""
    return {"dt_ms": 5000.0, "tokens_per_sec": 204.8, "mfu": 0.01} if step == 10 else {}


def test_means_are_of_steady_steps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", steps=1000, timing=slow_start)
    analysis = analysed(run)
    assert analysis.warmup_steps == 50
    assert analysis.ms_per_step == pytest.approx(100.0)
    assert analysis.tokens_per_second == pytest.approx(10_240.0)
    assert (analysis.mfu, analysis.mfu_peak) == (pytest.approx(0.6), 0.6)
    assert analysis.split == pytest.approx(
        {"compute": 0.95, "communication": 0.0, "optimizer": 0.04, "data_wait": 0.002, "other": 0.008}
    )
    assert analysis.memory_total_gb == pytest.approx(141 * 1.0737, rel=0.02)
    assert (analysis.steps, analysis.max_iters, analysis.status) == (1000, 1000, "finished")


def test_the_rate_is_all_tokens_over_all_time(tmp_path: Path) -> None:
    def alternating(step: int) -> dict[str, Any]:
        slow = step % 20 == 0
        return {"dt_ms": 300.0 if slow else 100.0, "tokens_per_sec": 1024 / (0.3 if slow else 0.1)}

    analysis = analysed(write_run(tmp_path / "r", steps=1000, timing=alternating), skip=0)
    # Interval 1 is left out, so 50 slow and 49 fast ones remain.
    assert analysis.tokens_per_second == pytest.approx(99 * 1024 / (50 * 0.3 + 49 * 0.1))


def test_the_first_interval_after_a_resume_is_left_out(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), *training_lines(range(1, 101))])
    slow = training_lines(range(51, 101), timing=lambda step: {"dt_ms": 9e3} if step == 60 else {})
    write_log(tmp_path, [{"kind": "resumed", "iter": 50}, start_line(), *slow], minutes=1)
    analysis = analysed(tmp_path)
    assert analysis.ms_per_step == pytest.approx(100.0)
    assert (analysis.attempts, analysis.repeated_steps) == (2, 50)


def test_the_projection_by_steps_and_by_the_wall_clock(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", steps=1000, settings={"world_size": 4})
    write_attempt(run, 1, begin=-5.0, end=15.0)
    analysis = analysed(run)
    # The log was written just now, years after its stamp: the attempt's end must not be taken for the last sign.
    by_steps, by_clock = analysis.projections
    assert by_steps.tokens == 81.727e9
    assert by_steps.hours == pytest.approx(81.727e9 / 10_240 / 3600)
    assert by_steps.days == pytest.approx(by_steps.hours / 24)
    assert by_steps.gpu_hours == pytest.approx(4 * by_steps.hours)
    assert by_steps.iterations == pytest.approx(81.727e9 / 1024)
    assert by_clock.tokens_per_second == pytest.approx(1000 * 1024 / 1200)
    named = dict(rows(analysis))
    assert (named["tokens/s"], named["in steps"]) == ("853 over the whole time", "10,240 tokens/s")
    assert "4 × NVIDIA H200" in text(analysis)
    assert f"{by_steps.hours:,.1f} hours" in text(analysis)


def test_a_length_of_the_users_is_projected(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", steps=100, settings={"model": "mine"})
    assert analysed(run).projections == ()
    assert "--tokens N" in text(analysed(run))
    assert analysed(run, tokens=1e9).projections[0].hours == pytest.approx(1e9 / 10_240 / 3600)


def test_the_guides_own_snippet_and_ours_agree(tmp_path: Path) -> None:
    """The formulas of the guide's analysis, on a log of its own tools."""
    steps = [entry(n, mfu=0.3 + (n % 7) / 100, dt_ms=500.0 + n % 5) for n in range(1, 301)]
    for step in steps:
        step["tokens_per_sec"] = 8192 / step["dt_ms"] * 1e3

    path = write(tmp_path / "run_1.json", training_progress=steps)
    analysis = analyse(read_document(path), skip=50, tokens=85e9)

    valid = steps[50:]
    average = {key: sum(s[key] for s in valid) / len(valid) for key in ("mfu", "dt_ms", "tokens_per_sec")}
    hours = 85e9 / (average["tokens_per_sec"] * average["dt_ms"] / 1e3) * average["dt_ms"] / 1e3 / 3600
    assert analysis.mfu == pytest.approx(average["mfu"])
    assert analysis.mfu_peak == max(s["mfu"] for s in valid)
    assert analysis.ms_per_step == pytest.approx(average["dt_ms"])
    assert analysis.tokens_per_second == pytest.approx(average["tokens_per_sec"], rel=1e-4)
    assert analysis.projections[0].hours == pytest.approx(hours, rel=1e-4)


def test_an_empty_log_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    analysis = analyse(RunLog(tmp_path).read())
    assert (analysis.steps, analysis.mfu, analysis.tokens_per_second, analysis.projections) == (
        0,
        None,
        None,
        (),
    )
    assert "no log" in text(analysis)


def test_the_last_loss_is_a_mean() -> None:
    assert final_loss([]) is None
    assert final_loss([3.0]) == 3.0
    assert final_loss([9.0] * 90 + [1.0, 3.0] * 5) == 2.0
    assert final_loss([9.0] * 950 + [2.0] * 50) == 2.0


def test_amounts_read_well() -> None:
    assert [short_count(v) for v in (0, 12, 1536, 81.727e9, 1.36e21)] == [
        "0",
        "12",
        "1.54k",
        "81.7B",
        "1.36e+09T",
    ]


def test_where_the_time_went_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", steps=100)
    spent = Goodput(
        wall_seconds=100.0,
        seconds={"steps": 80.0, "queue": 15.0, "startup": 5.0},
        tokens=5000,
        attempts=1,
        starts=1,
    )
    analysis = analyse(RunLog(run).read(), goodput=spent)
    assert (analysis.wall_seconds, analysis.wall_tokens_per_second) == (100.0, 50.0), "the queue counts"
    assert analysis.goodput == {"steps": 0.8, "queue": 0.15, "startup": 0.05}
    shown = text(analysis)
    assert "80.0% of the wall-clock time in steps that count" in shown
    assert "in the queue 15.0%, container, imports, compilation, first step 5.0%" in shown
    assert analyse(RunLog(run).read()).goodput == {}

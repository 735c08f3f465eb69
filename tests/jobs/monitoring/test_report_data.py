"""What the page draws, against the log that it comes from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.monitoring.report_data import page_data
from jobctl.jobs.monitoring.report_page import page
from tests.jobs.monitoring.runs import curve, start_line, training_lines, write_attempt, write_log, write_run
from tests.jobs.monitoring.test_report_page import resumed_run, subject


def test_curves_axes_and_evaluations(tmp_path: Path) -> None:
    data = page_data([subject(write_run(tmp_path / "a", steps=200, noise=0.0))])
    (run,) = data["runs"]
    assert data["steps"] == list(range(1, 201))
    assert run["curves"]["loss"]["mean"][99] == pytest.approx(curve(100), rel=1e-4)
    assert "low" not in run["curves"]["loss"], "one value a bucket needs no band"
    assert run["tokens"][-1] == 200 * 1024
    assert run["hours"][-1] == pytest.approx(20 / 3600, rel=1e-4)
    assert run["evaluations"] == [
        [200.0, 204_800.0, pytest.approx(20 / 3600, rel=1e-4), pytest.approx(3.5643)]
    ]
    assert "communication" not in run["curves"], "all zero"


def test_runs_share_one_grid_and_end_where_they_end(tmp_path: Path) -> None:
    runs = [subject(write_run(tmp_path / f"r{steps}", steps=steps)) for steps in (1000, 400)]
    data = page_data(runs, most=100)
    assert [len(run["tokens"]) for run in data["runs"]] == [100, 40]
    assert len(data["runs"][1]["curves"]["loss"]["mean"]) == 40
    assert len(data["runs"][1]["curves"]["loss"]["low"]) == 40


def test_attempts_are_cut_where_the_next_one_goes_on(tmp_path: Path) -> None:
    (run,) = page_data([subject(resumed_run(tmp_path / "r"))])["runs"]
    first, second = run["attempts"]
    assert (first["steps"], first["end"], first["exit_code"]) == ([0, 100], "preempted", 200)
    assert (second["steps"], second["repeated"], second["end"]) == ([100, 200], 20, "finished")
    assert run["layers"]["norms"][3] == [None] * 4, "a norm that is no number"
    assert run["layers"]["steps"] == [50, 100, 150, 200]


def test_records_that_do_not_match_the_logs_are_not_mixed_up(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r")
    write_attempt(run, 1, end=1.0, reason="failed before it logged")
    write_attempt(run, 2, begin=2.0)
    (data,) = page_data([subject(run)])["runs"]
    assert [(a["number"], a["job"]) for a in data["attempts"]] == [(1, "")]


def test_all_of_it_is_json(tmp_path: Path) -> None:
    write_log(
        tmp_path / "r",
        [start_line(extra=None, table={"a": 1}), *training_lines([1], loss=lambda step: "nan")],
    )
    data = page_data([subject(tmp_path / "r")])
    text = msgspec.json.encode(data)
    assert msgspec.json.decode(text)["runs"][0]["settings"]["table"] == "a: 1"


def test_validation_losses_of_different_sets_have_a_note(tmp_path: Path) -> None:
    same = [subject(write_run(tmp_path / name)) for name in ("a", "b")]
    assert page_data(same)["validation_note"] == ""
    assert "different validation sets" not in page(same, "now")
    other = subject(write_run(tmp_path / "c", scored={"set": "val-y"}))
    assert (
        page([*same, other], "now").count('<p class="about">Note: the runs have different validation sets')
        == 1
    )

"""The benchmark of a run's hours, with a tiny model on this machine's CPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.goodput import main, same_steps, table
from jobctl.jobs.core.run_times import read_goodput
from tests.trainer.corpus import arguments, write_corpus


def test_a_killed_rank_costs_a_restart_and_changes_no_step(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_corpus(tmp_path / "data")
    flags = arguments(data, tmp_path, max_iters=80, checkpoint_interval=5, log_interval=10)[1:]
    output = tmp_path / "result.json"
    assert main(["--folder", str(tmp_path / "runs"), "-o", str(output), "--", *flags]) == 0

    results = json.loads(output.read_text())["results"]
    assert results["same_steps"] is True
    assert results["whole"]["restart_seconds"] == []
    assert len(results["killed"]["restart_seconds"]) == 1
    assert results["killed"]["restart_seconds"][0] > 0
    assert sum(results["killed"]["shares"].values()) == pytest.approx(1.0, abs=0.01)
    assert results["killed"]["shares"]["restart"] > 0
    assert "all logged the same steps: True" in capfd.readouterr().out

    assert results["resume"]["resume_seconds"] > 0
    assert results["resume"]["start_seconds"] > 0
    assert results["resume"]["ratio"] > 0

    goodput = read_goodput(tmp_path / "runs" / "killed")
    assert goodput
    assert (goodput.attempts, goodput.starts) == (1, 2)


def test_runs_without_steps_are_not_called_equal(tmp_path: Path) -> None:
    assert not same_steps(tmp_path / "one", tmp_path / "other")


def test_a_run_without_a_checkpoint_has_gaps_in_the_table() -> None:
    text = table({"whole": {}, "killed": {}, "same_steps": False})
    assert "nan" in text
    assert "all logged the same steps: False" in text

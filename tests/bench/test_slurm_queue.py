"""The bench of a long queue: what it times, on a real Slurm with few jobs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import slurm_queue
from tests.clusters.slurm import SlurmCluster


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="exit 3: out"):
        slurm_queue.timed((sys.executable, "-c", "print('out'); raise SystemExit(3)"), {})


def test_the_median_of_the_runs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter((5.0, 1.0, 2.0))
    monkeypatch.setattr(
        slurm_queue, "timed", lambda command, env: dict.fromkeys(("wall", "processor"), next(seconds))
    )

    assert slurm_queue.repeated(3, lambda number: ("true",), {}) == {"wall": 2.0, "processor": 2.0}


def test_the_queue_is_filled_and_each_command_answers(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    slurm_queue.fill(slurm_cluster, 3)
    rows = slurm_queue.measure(slurm_cluster, tmp_path, 1, "t")

    queue = slurm_cluster.run("squeue", "--noheader", "--format=%T")
    assert queue.split() == ["PENDING"] * 5
    assert list(rows) == ["squeue of this user", "jobctl list", "sbatch", "jobctl submit"]
    assert all(row["wall"] > 0 for row in rows.values())

"""The bounds of the checks of speed: what is near a fault and is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.monitoring.checks.faults import slow_rank, starved, throttled, timed, weak
from tests.jobs.monitoring.checks.test_diagnosis import findings


def test_a_busy_cpu_is_no_throttled_gpu(tmp_path: Path) -> None:
    timed(throttled, device="x86_64", peak_flops=None)(tmp_path)
    assert findings(tmp_path) == []


def test_the_part_to_blame_is_named(tmp_path: Path) -> None:
    timed(starved)(tmp_path)
    (finding,) = findings(tmp_path)
    assert "of a step's time" in finding.evidence
    assert "dataloader_num_workers" in finding.remedy


def test_a_low_mfu_without_a_better_cause_blames_computation(tmp_path: Path) -> None:
    timed(weak)(tmp_path)
    (finding,) = findings(tmp_path)
    assert finding.cause == "The MFU is low. The cause is: compute."
    assert "MFU 11.0%" in finding.evidence


@pytest.mark.parametrize("share", [5.0, 9.0])
def test_some_waiting_is_usual(tmp_path: Path, share: float) -> None:
    timed(lambda step: {"data_wait_ms": share, "compute_ms": 85.0})(tmp_path)
    assert findings(tmp_path) == []


def test_one_slow_interval_is_an_evaluation(tmp_path: Path) -> None:
    timed(lambda step: {"dt_ms": 900.0} if step == 200 else {})(tmp_path)
    assert findings(tmp_path) == []


@pytest.mark.parametrize("slow", [1.0, 1.1])
def test_ranks_that_differ_by_little_are_well(tmp_path: Path, slow: float) -> None:
    slow_rank(tmp_path, slow)
    assert findings(tmp_path) == []


def test_a_straggler_is_named_by_its_rank(tmp_path: Path) -> None:
    slow_rank(tmp_path)
    (finding,) = findings(tmp_path)
    assert finding.evidence.startswith(
        "rank 2 is the slowest in 20 of the last 20 intervals: 150.0 ms a step"
    )


@pytest.mark.parametrize("part", ["data_wait", "communication"])
def test_ranks_that_share_cores_may_wait(tmp_path: Path, part: str) -> None:
    timed(lambda step: {f"{part}_ms": 28.0, "compute_ms": 70.0}, device="x86_64", peak_flops=None)(tmp_path)
    assert findings(tmp_path) == []

"""The multi-GPU benchmark's arithmetic, and which GPUs its jobs get."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import multi_gpu


def result(
    way: str, tier: int = 2, gpus: int = 2, ms: Sequence[float] = (1000.0, 1000.0), **facts: Any
) -> Any:
    return {"model": "qwen3_1.8b", "way": way, "tier": tier, "gpus": gpus, "batch": 8, "accumulation": 8,
            "ranks_ms": list(ms), **facts}  # fmt: skip


def test_the_share_is_of_what_the_same_gpus_do_alone_in_the_same_tier_with_the_same_trainer() -> None:
    alone: dict[tuple[Any, ...], list[float]] = {}
    for way, tier, ms in (("none", 2, 900.0), ("none", 4, 600.0), ("torchtitan-none", 2, 990.0)):
        assert "efficiency" not in multi_gpu.figures(result(way, tier, ms=[ms, ms]), alone)
    shares = [
        multi_gpu.figures(result(way, tier), alone)["efficiency"]
        for way, tier in (("fsdp", 1), ("zero1", 2), ("ddp", 4), ("torchtitan", 2))
    ]
    assert shares == pytest.approx([0.9, 0.9, 0.6, 0.99])
    assert "efficiency" not in multi_gpu.figures(result("ddp", 3), alone)
    assert "efficiency" not in multi_gpu.figures(result("ddp", gpus=4), alone)


def test_gpus_alone_count_with_the_mean_of_their_rates_and_with_the_slowest() -> None:
    alone: dict[tuple[Any, ...], list[float]] = {}
    found = multi_gpu.figures(result("none", ms=[800.0, 1200.0]), alone)
    assert found["tokens_per_second_by_gpu"] == [163_840, 109_227]
    assert found["tokens_per_second_per_gpu"] == 136_533
    together = multi_gpu.figures(result("ddp", ms=[1200.0, 1200.0]), alone)
    assert together["efficiency"] == pytest.approx(0.8)
    assert together["efficiency_of_slowest"] == pytest.approx(1.0)


def test_losses_are_compared_with_those_of_ddp_on_as_many_gpus_and_with_a_second_run_of_it() -> None:
    runs = [
        result("ddp", losses=[3.0, 2.0]), result("fsdp", losses=[3.0, 2.5]), result("torchtitan", losses=[9.0, 9.0]),
        result("ddp", gpus=4, losses=[5.0, 4.0]), result("zero1", gpus=4, losses=[5.25, 4.0]),
        result("none", losses=[1.0]),
        result("ddp", tier=3, losses=[3.0, 2.25, 1.0]),
        result("ddp", losses=[7.0, 6.0, 5.0], curve=1), result("ddp", losses=[7.0, 6.0, 5.0625], curve=2),
        result("fsdp", losses=[7.0, 6.125, 5.0], curve=1),
    ]  # fmt: skip
    assert multi_gpu.curves(runs) == {
        "qwen3_1.8b 2 x fsdp-2, 2 steps": 0.5,
        "qwen3_1.8b 4 x zero1-2, 2 steps": 0.25,
        "qwen3_1.8b 2 x ddp-3, 2 steps": 0.25,
        "qwen3_1.8b 2 x ddp-2 again, 3 steps": 0.0625,
        "qwen3_1.8b 2 x fsdp-2, 3 steps": 0.125,
    }


@pytest.mark.parametrize(("count", "sets"), [(1, [[0], [1]]), (2, [[0, 1], [2, 3]]), (4, [[0, 1, 2, 3]] * 2)])
def test_models_run_beside_each_other_on_gpus_of_their_own(
    monkeypatch: pytest.MonkeyPatch, count: int, sets: list[list[int]]
) -> None:
    given: list[list[int]] = []

    def seen(gpus: Sequence[int], work: Sequence[dict[str, Any]], _: float) -> list[dict[str, Any]]:
        given.append(list(gpus))
        return [dict(job) for job in work]

    monkeypatch.setattr(multi_gpu, "on_gpus", seen)
    options = argparse.Namespace(
        gpus=[2, 4], models=["llama3_1.5b", "qwen3_1.8b"], batch=8, accumulation=None, steps=3, data=Path("data"),
        leave_out=["ddp-1"],
    )  # fmt: skip
    all_jobs: list[dict[str, Any]] = []
    multi_gpu.side_by_side(options, count, math.inf, all_jobs.append)
    assert {job["model"] for job in all_jobs} == set(options.models)
    assert {(job["batch"], job["accumulation"]) for job in all_jobs if "curve" not in job} == {(8, 8)}
    assert not any((job["way"], job["tier"]) == ("ddp", 1) for job in all_jobs)
    assert all(
        ("profile" in job) == (count > 1 and not job["way"].endswith("none") and "curve" not in job)
        for job in all_jobs
    )
    assert any("curve" in job for job in all_jobs) == (count > 1)
    for gpus in given:
        assert gpus in sets


def ranks_that(tmp_path: Path, script: str) -> str:
    """A program in torchrun's place."""
    program = tmp_path / "ranks"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_a_result_is_there_before_the_next_job_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = (
        f"echo '{{}}'; while [ ! -e {go} ]; do sleep 0.02; done; echo words; echo '{{\"way\": \"fsdp\"}}'"
    )
    monkeypatch.setattr(sys, "executable", ranks_that(tmp_path, script))
    results = multi_gpu.on_gpus([0, 1], [{"way": "ddp"}, {"way": "fsdp"}], time.time() + 60)
    assert next(results) == {}
    go.touch()
    assert list(results) == [{"way": "fsdp"}]


def test_ranks_that_break_off_or_hang_leave_what_was_done_and_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = [{"way": "ddp"}, {"way": "fsdp"}]
    script = """echo '{"way": "ddp"}'; echo 'no memory' >&2; exit 1"""
    monkeypatch.setattr(sys, "executable", ranks_that(tmp_path, script))
    found = list(multi_gpu.on_gpus([0, 1], work, time.time() + 60))
    assert found == [{"way": "ddp"}, {"way": "fsdp", "gpus": 2, "error": "no memory"}]
    monkeypatch.setattr(sys, "executable", ranks_that(tmp_path, "echo '{}'; sleep 600"))
    monkeypatch.setattr(multi_gpu, "GRACE", 0.5)
    assert [sorted(result) for result in multi_gpu.on_gpus([0, 1], work, time.time())] == [
        [],
        ["error", "gpus", "way"],
    ]

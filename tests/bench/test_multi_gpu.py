"""The multi-GPU benchmark's arithmetic, and which GPUs its jobs get."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import multi_gpu


def result(way: str, tier: int = 2, gpus: int = 2, step_ms: float = 1000.0, **facts: Any) -> dict[str, Any]:
    return {"model": "qwen3_1.8b", "way": way, "tier": tier, "gpus": gpus, "batch": 8, "accumulation": 8,
            "step_ms": step_ms, **facts}  # fmt: skip


def test_the_share_of_one_gpu_is_of_the_same_tier_and_trainer() -> None:
    alone: dict[tuple[str, str, int], float] = {}
    for way, tier, ms in (("none", 2, 900.0), ("none", 4, 600.0), ("torchtitan", 2, 990.0)):
        assert "efficiency" not in multi_gpu.figures(result(way, tier, 1, ms), alone)
    shares = [
        multi_gpu.figures(result(way, tier), alone)["efficiency"]
        for way, tier in (("fsdp", 1), ("zero1", 2), ("ddp", 4), ("torchtitan", 2))
    ]
    assert shares == pytest.approx([0.9, 0.9, 0.6, 0.99])
    assert "efficiency" not in multi_gpu.figures(result("ddp", 3), alone)


def test_losses_are_compared_with_those_of_ddp_on_as_many_gpus() -> None:
    runs = [
        result("ddp", losses=[3.0, 2.0]), result("fsdp", losses=[3.0, 2.5]), result("torchtitan", losses=[9.0, 9.0]),
        result("ddp", gpus=4, losses=[5.0, 4.0]), result("zero1", gpus=4, losses=[5.25, 4.0]), result("none", gpus=1),
    ]  # fmt: skip
    found = multi_gpu.curves(runs)
    assert found == {
        "qwen3_1.8b 2 x ddp-2": 0.0,
        "qwen3_1.8b 2 x fsdp-2": 0.5,
        "qwen3_1.8b 4 x ddp-2": 0.0,
        "qwen3_1.8b 4 x zero1-2": 0.25,
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
        gpus=[2, 4], models=["llama3_1.5b", "qwen3_1.8b"], batch=8, accumulation=8, steps=3, data=Path("data"),
        leave_out=["ddp-1"],
    )  # fmt: skip
    found = list(multi_gpu.side_by_side(options, count, math.inf))
    assert [work[0]["model"] for work in found] == options.models
    assert not any((job["way"], job["tier"]) == ("ddp", 1) for work in found for job in work)
    assert all(job["profile"] == (count > 1) for work in found for job in work)
    for gpus in given:
        assert gpus in sets

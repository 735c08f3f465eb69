"""The benchmark of replays, with a tiny model on this machine's CPUs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from bench.replay import cost, flip_bit, main
from tests.trainer.corpus import arguments, write_corpus


def test_every_flipped_bit_of_a_model_is_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = arguments(write_corpus(tmp_path / "data"), tmp_path / "run", max_iters=80)
    output = tmp_path / "result.json"
    assert main(["-o", str(output), "--steps", "3", "--flips", "20", "--", *flags]) == 0

    results = json.loads(output.read_text())["results"]
    assert (results["flips"], results["caught"], results["false_alarms"]) == (20, 20, 0)
    assert results["step_ms"] > 0
    assert "caught" in capsys.readouterr().out


def test_the_cost_is_a_replay_spread_over_a_hundred_steps() -> None:
    assert cost({False: [100.0, 100.0], True: [150.0, 150.0]}) == {
        "step_ms": 100.0,
        "step_with_replay_ms": 150.0,
        "replay_ms": 50.0,
        "cost_of_one_in_100": 0.005,
        "replays_that_differed": 0,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_bit_of_a_tensor_is_flipped(dtype: torch.dtype) -> None:
    for seed in range(64):
        tensor = torch.zeros(3, 2, dtype=dtype)
        flip_bit(tensor, random.Random(seed))
        raw = tensor.view(torch.uint8).reshape(-1).tolist()
        assert sum(byte.bit_count() for byte in raw) == 1

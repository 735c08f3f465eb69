"""A trace of a few steps, or a word about why there is none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from jobctl.trainer.distributed import World
from jobctl.trainer.reporting.profiling import SKIPPED, TRACED, WARMUP, Profiler

WORLD = World(2, 4, torch.device("cpu"))


def test_the_traced_steps_are_in_the_ranks_file(tmp_path: Path) -> None:
    profiler = Profiler(True, tmp_path, WORLD)
    for _ in range(SKIPPED + WARMUP + TRACED):
        torch.ones(2) + 1
        profiler.step()
    # Written after the last traced step, and not at the end of a training of days.
    assert json.loads(profiler.path.read_text())["traceEvents"]
    assert profiler.path.name == "trace-rank-00002.json"
    profiler.close()


def test_an_attempt_that_ends_before_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profiler = Profiler(True, tmp_path, WORLD)
    profiler.step()
    with caplog.at_level(logging.WARNING):
        profiler.close()
    assert "no trace: it needs steps 4 to 6" in caplog.text
    assert not profiler.path.exists()


def test_without_the_flag_nothing_is_written(tmp_path: Path) -> None:
    profiler = Profiler(False, tmp_path, WORLD)
    profiler.step()
    profiler.close()
    assert list(tmp_path.iterdir()) == []

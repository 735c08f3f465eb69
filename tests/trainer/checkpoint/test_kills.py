"""SIGKILL at random moments, many times, saving included: the run ends as one that was never killed."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.core.layout import checkpoints_dir
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.reporting.runlog import records_of_run
from tests.trainer.corpus import SHARDINGS, arguments, write_corpus
from tests.trainer.running import Ranks, losses, on_ranks, records

KILLS = 8
FLAGS: dict[str, Any] = {
    "max_iters": 48, "checkpoint_interval": 2, "log_interval": 3, "eval_interval": 16, "skip_loss_spikes": 6.0
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


def latest(run: Path) -> int:
    return publication.pointed(run, "LATEST") or 0


def saving(run: Path) -> bool:
    return checkpoints_dir(run).is_dir() and any(checkpoints_dir(run).glob(".writing-*"))


def wait_until(condition: Callable[[], bool], ranks: Ranks) -> None:
    while ranks.run() and not condition():
        time.sleep(0.001)


def kill_and_resume(run: Path, start: Callable[[int], Ranks]) -> int:
    """Kill attempt after attempt, every other one while it saves, then let one end; how many saves were cut short."""
    chance = random.Random(7)
    cut_short = 0
    for attempt in range(KILLS):
        ranks = start(attempt)
        goal = latest(run) + 2 * chance.randint(1, 2)
        wait_until(lambda goal=goal: latest(run) >= goal, ranks)  # type: ignore[misc]
        if attempt % 2:
            wait_until(lambda: saving(run), ranks)
        else:
            time.sleep(chance.random() * 0.02)
        assert ranks.run(), "it ended before it could be killed"
        ranks.kill()
        cut_short += saving(run)
    assert start(KILLS).codes() == [0]
    return cut_short


def log_lines(run: Path) -> list[str]:
    """Return what the run log says of steps and validations, as bytes would compare."""
    return [
        msgspec.json.encode(record).decode()
        for record in records_of_run(run)
        if record["kind"] in ("iteration", "eval")
    ]


def weight_hash(run: Path) -> str:
    weights = load_model_weights(run)[1]
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(("size", "mode"), [(1, {}), (2, list(SHARDINGS.values())[-1])], ids=["one", "two"])
def test_on_the_same_layout_no_byte_differs(
    data: Path, tmp_path: Path, size: int, mode: dict[str, object]
) -> None:
    whole = tmp_path / "whole"
    run = tmp_path / "killed"
    assert on_ranks(size, arguments(data, whole, **FLAGS, **mode)) == [0]
    assert kill_and_resume(run, lambda _: Ranks(size, arguments(data, run, **FLAGS, **mode))) > 0
    assert [r["iter"] for r in records(run)] == list(range(1, 49))
    assert log_lines(run) == log_lines(whole)
    assert weight_hash(run) == weight_hash(whole)


WORKERS = {"use_dataloader": True, "dataloader_num_workers": 1}
LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (2, SHARDINGS.get("zero1", {})), (1, WORKERS), (2, SHARDINGS.get("fsdp", {})), (4, {}), (1, {}),
    (2, WORKERS | {"dataloader_num_workers": 2}),
]  # fmt: skip


def test_on_other_numbers_of_processes_and_workers_only_rounding_differs(data: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run = tmp_path / "killed"

    def start(attempt: int) -> Ranks:
        size, mode = LAYOUTS[attempt % len(LAYOUTS)]
        return Ranks(size, arguments(data, run, gradient_accumulation_steps=4 // size, **FLAGS, **mode))

    assert on_ranks(1, arguments(data, whole, gradient_accumulation_steps=4, **FLAGS)) == [0]
    kill_and_resume(run, start)
    assert [r["samples"] for r in records(run)] == [r["samples"] for r in records(whole)]
    assert [r["lr"] for r in records(run)] == [r["lr"] for r in records(whole)]
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)

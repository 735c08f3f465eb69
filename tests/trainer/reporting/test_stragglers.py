"""A rank that the others wait for is named while the run goes on, with how much and why."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from jobctl.trainer.distributed import World
from jobctl.trainer.reporting import stragglers
from jobctl.trainer.reporting.gpu_state import GpuState
from jobctl.trainer.reporting.stragglers import RankTimes, Stragglers, record, slowest, times_of, words
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import ALONE, Ranks, prepare, records

EQUAL = RankTimes(100.0, 1.0, 5.0)
SLOW = RankTimes(130.0, 1.0, 0.0, GpuState(699.0, 1200.0, 88.0, 0x40))
HUNGRY = RankTimes(100.0, 40.0, 0.0)


def test_the_slow_one_of_many_is_found() -> None:
    assert slowest([EQUAL, EQUAL, SLOW, EQUAL]) == 2
    assert slowest([EQUAL, SLOW]) == 1


@pytest.mark.parametrize(
    "times",
    [[EQUAL, EQUAL], [EQUAL, RankTimes(108.0, 1.0, 0.0)], [RankTimes(1.0, 0, 0), RankTimes(1.9, 0, 0)]],
)
def test_small_differences_name_nobody(times: list[RankTimes]) -> None:
    assert slowest(times) is None


def test_it_is_said_with_place_amount_and_what_the_gpu_says() -> None:
    text = words([EQUAL, SLOW, EQUAL], 1, "n2, GPU 3")
    assert text == (
        "rank 1 (n2, GPU 3) is slow: it computes, 131 ms a step where the median rank takes 101 ms (+30%), and the "
        "others wait for it; its GPU: 699 W, 1200 MHz, 88 °C, slowed by hardware thermal limit"
    )
    assert "it waits for its data, 140 ms a step" in words([EQUAL, HUNGRY, EQUAL], 1, "n2")


def test_a_rank_is_named_after_some_intervals_in_a_row_and_not_at_each_one() -> None:
    watch = Stragglers(ALONE)
    watch.places = ["n1", "n2"]
    said = [bool(watch.judge([EQUAL, SLOW])) for _ in range(stragglers.IN_A_ROW + 4)]
    assert said == [False, False, True, False, False, False, False]
    assert watch.judge([EQUAL, EQUAL]) == []
    assert watch.judge([EQUAL, SLOW]) == []


def test_the_run_log_has_all_ranks_or_of_many_the_slowest() -> None:
    few = record(40, [EQUAL, SLOW])
    assert (few["slowest"], few["slowest_ms"], few["median_ms"]) == (1, 131.0, 101.0)
    assert few["compute_ms"] == [100.0, 130.0]
    assert "compute_ms" not in record(40, [EQUAL] * 1000)


def test_what_a_rank_sends_is_what_the_others_read() -> None:
    assert times_of([90.0, 10.0, 1.0, 5.0, 699.0, 1200.0, 88.0, 64.0]) == RankTimes(
        100.0, 1.0, 5.0, GpuState(699.0, 1200.0, 88.0, 0x40)
    )


def test_a_single_process_gathers_nothing() -> None:
    assert Stragglers(ALONE).gather(1, {"compute_ms": 3.0}) == []


def with_a_slow_rank(command: Sequence[str], world: World) -> list[str]:
    """Train, rank 1 slowly; what was said."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            said.append(entry.getMessage())

    logging.getLogger("jobctl.trainer.training.loop").addHandler(Listener())
    training = prepare(command, world)
    stepper = training.run.stepper
    whole = stepper.loss

    def slow(tokens: torch.Tensor) -> torch.Tensor:
        if world.rank == 1:
            time.sleep(0.2)
        return whole(tokens)

    stepper.loss = slow  # type: ignore[method-assign]
    training.train_to_the_end()

    return said


def test_in_a_training_the_slow_rank_is_named_while_it_runs(tmp_path: Path) -> None:
    command = arguments(write_corpus(tmp_path / "data"), tmp_path / "run", max_iters=10, log_interval=1)
    (said,) = Ranks(2, command, action=with_a_slow_rank).codes()
    assert any("rank 1 (" in text and "is slow: it computes" in text for text in said), said

    lines = records(tmp_path / "run", "ranks")
    assert [line["iter"] for line in lines] == list(range(1, 10))
    assert sum(line["slowest"] == 1 for line in lines) >= stragglers.IN_A_ROW

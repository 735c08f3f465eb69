"""The largest micro-batch: what was found by bisection on an H200, and what ``auto`` takes."""

from __future__ import annotations

import json

import pytest

from bench.document import RESULTS
from jobctl.jobs.estimate.batch import automatic_batch, fits, largest_batch, needed_gib, room_gib
from tests.jobs.estimate.trainings import on_cpu, training

H200 = 139.8


@pytest.mark.parametrize(
    ("model", "measured"),
    [("qwen3_1.8b", 31), ("llama3_1.5b", 40), ("llama3_2.2b", 19), ("llama2_1.36b", 38)],
)
def test_the_largest_batch_is_the_one_that_was_found_in_fresh_processes(model: str, measured: int) -> None:
    # docs/performance.md, by bisection on one H200.
    assert abs(largest_batch(training(model, 1), H200) - measured) <= 1


@pytest.mark.parametrize("way", ["fused", "float8", "compiled", "eager"])
def test_the_next_larger_batch_does_not_fit(way: str) -> None:
    situation = training("qwen3_1.8b", 1, way)
    size = largest_batch(situation, H200)
    assert fits(situation.with_batch(size), H200)
    assert not fits(situation.with_batch(size + 1), H200)


def test_where_not_even_one_sequence_fits_the_largest_batch_is_zero() -> None:
    assert largest_batch(training("qwen3_1.8b", 1), 24.0) == 0


def test_ranks_of_a_machine_share_its_memory_and_gpus_have_their_own() -> None:
    one = on_cpu("qwen3_smoke", 4, ranks=1, ranks_per_node=1)
    two = on_cpu("qwen3_smoke", 4, ranks=2, ranks_per_node=2)
    assert room_gib(two, 4.0) == pytest.approx(room_gib(one, 4.0) / 2)
    assert room_gib(training("qwen3_1.8b", 8, "ddp", ranks=8), H200) == pytest.approx(H200 * 0.995)


def test_a_large_model_is_refused_by_a_small_machine() -> None:
    situation = on_cpu("qwen3_1.8b", 1, ranks=2, ranks_per_node=2, block_size=2048)
    # Float32 weights, two moments, gradients: 16 bytes a parameter and more, in each of two processes.
    assert needed_gib(situation) > 27
    assert not fits(situation, 24.0)


@pytest.mark.parametrize("model", ["qwen3_1.8b", "llama3_2.2b"])
def test_auto_keeps_the_global_batch_and_takes_the_largest_divisor_that_fits(model: str) -> None:
    situation = training(model, 4, gradient_accumulation_steps=30)
    chosen = automatic_batch(situation, H200)
    assert chosen is not None
    assert chosen.batch_size * chosen.gradient_accumulation_steps == 120

    largest = largest_batch(situation, H200)
    between = range(chosen.batch_size + 1, largest + 1)
    assert chosen.batch_size <= largest
    assert all(120 % size for size in between)


def test_auto_says_that_nothing_fits() -> None:
    assert automatic_batch(training("qwen3_1.8b", 4), 24.0) is None


def test_the_estimates_largest_batch_fits_and_one_more_does_not() -> None:
    # In fresh processes, and for one model on a card made as small as an H100.
    document = json.loads((RESULTS / "h200-2026-11-29-estimate-memory.json").read_text())
    asked = [result for result in document["results"] if "expected_largest_batch" in result]
    assert len(asked) >= 10
    for result in asked:
        assert ("error" in result) == (result["batch"] > result["expected_largest_batch"])

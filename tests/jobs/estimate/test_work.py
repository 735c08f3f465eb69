"""The work of a step: counts that hold whatever the device."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.estimate.work import moved_bytes_per_token, sent_bytes, work_of_step
from tests.jobs.estimate.trainings import training


@pytest.mark.parametrize("way", ["fused", "float8", "compiled", "eager"])
@pytest.mark.parametrize("model", ["qwen3_1.8b", "gpt2_1.36b"])
def test_the_flops_are_those_of_mfu_with_the_causal_half(model: str, way: str) -> None:
    situation = training(model, 8, way)
    work = work_of_step(situation)
    tokens = 8 * 2048 * 2
    total = work.product_flops + work.float8_flops + work.attention_flops
    assert total == arithmetic.flops_per_token_causal(situation.model, 2048) * tokens
    assert (work.float8_flops > 0) == (way == "float8")


def test_each_way_moves_more_than_the_one_before() -> None:
    moved = [moved_bytes_per_token(training("qwen3_1.8b", 8, way)) for way in ("fused", "compiled", "eager")]
    assert moved[0] < moved[1] < moved[2]
    assert moved_bytes_per_token(training("qwen3_1.8b", 8, "float8")) > moved[0]


def test_a_ring_sends_twice_the_gradients_and_zero1_three_quarters_of_that() -> None:
    parameters = arithmetic.parameters(training("qwen3_1.8b", 8).model)
    assert sent_bytes(training("qwen3_1.8b", 8)) == 0
    assert sent_bytes(training("qwen3_1.8b", 8, "ddp", ranks=4)) == pytest.approx(2 * 4 * parameters * 3 / 4)
    assert sent_bytes(training("qwen3_1.8b", 8, "zero1", ranks=4)) == pytest.approx(6 * parameters * 3 / 4)


def test_fsdp_gathers_in_every_micro_step() -> None:
    two = sent_bytes(training("qwen3_1.8b", 8, "fsdp", ranks=4))
    four = sent_bytes(training("qwen3_1.8b", 8, "fsdp", ranks=4, gradient_accumulation_steps=4))
    assert four > two > sent_bytes(training("qwen3_1.8b", 8, "zero1", ranks=4))


def test_logits_in_chunks_move_the_heads_gradient_once_more() -> None:
    whole = work_of_step(training("qwen3_1.8b", 20)).moved_bytes / 20
    chunked = work_of_step(training("qwen3_1.8b", 40)).moved_bytes / 40
    assert chunked > whole


def test_sharding_divides_the_update() -> None:
    alone = work_of_step(training("qwen3_1.8b", 8)).update_bytes
    sharded = work_of_step(training("qwen3_1.8b", 8, "zero1", ranks=4)).update_bytes
    assert sharded == pytest.approx(alone / 4)

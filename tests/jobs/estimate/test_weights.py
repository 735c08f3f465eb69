"""Weights, gradients and optimiser state of one rank."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.estimate.weights import fixed_bytes, kept_elements, matrices, multiplied
from tests.jobs.estimate.trainings import on_cpu, training

MODELS = ["qwen3_1.8b", "llama3_1.5b", "llama3_2.2b", "llama2_1.36b", "gpt2_1.36b"]


@pytest.mark.parametrize("model", MODELS)
def test_matrices_are_all_parameters_but_gains_and_positions(model: str) -> None:
    situation = training(model, 8)
    config = situation.model
    positions = config.max_position_embeddings if situation.family.learned_positions else 0
    rest = arithmetic.norm_parameters(config) + positions * config.hidden_size
    assert multiplied(situation) == arithmetic.parameters(config) - rest
    blocks = config.num_hidden_layers * arithmetic.block_matmul_parameters(config)
    assert multiplied(situation, blocks_only=True) == blocks


def test_a_matrix_whose_rows_do_not_divide_stays_whole_on_each_rank() -> None:
    whole = multiplied(training("gpt2_1.36b", 8))
    # 50,304 and 2,304 rows divide by 7 nowhere.
    assert multiplied(training("gpt2_1.36b", 8), 7) == whole
    assert multiplied(training("gpt2_1.36b", 8), 4) == whole // 4
    assert all(
        each.elements(5) == each.elements() for each in matrices(training("gpt2_1.36b", 8)) if each.rows % 5
    )


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_zero1_takes_the_optimisers_share_of_the_matrices(ranks: int) -> None:
    alone = fixed_bytes(training("qwen3_1.8b", 8, "ddp", ranks=ranks))
    sharded = fixed_bytes(training("qwen3_1.8b", 8, "zero1", ranks=ranks))
    situation = training("qwen3_1.8b", 8)
    spared = 12 * (multiplied(situation) - multiplied(situation, ranks))
    assert alone.total - sharded.total == spared
    assert sharded.gradients == alone.gradients


def test_fully_shard_divides_everything() -> None:
    situation = training("llama3_1.5b", 8, "zero1", ranks=2, kernels="plain")
    assert kept_elements(situation) == -(-arithmetic.parameters(situation.model) // 2)


def test_fsdp_of_several_nodes_keeps_its_own_rows_in_the_allocator() -> None:
    one = fixed_bytes(training("qwen3_1.8b", 8, "fsdp", ranks=8))
    two = fixed_bytes(training("qwen3_1.8b", 8, "fsdp", ranks=8, ranks_per_node=4))
    situation = training("qwen3_1.8b", 8)
    assert two.working_copies - one.working_copies == 2 * multiplied(situation, 8, blocks_only=True)


def test_a_plain_training_has_no_gradients_in_a_steps_first_micro_step() -> None:
    assert fixed_bytes(training("qwen3_1.8b", 8, "eager", gradient_accumulation_steps=1)).gradients == 0
    assert fixed_bytes(training("qwen3_1.8b", 8, "eager")).gradients == 4 * 1830395904


def test_plain_ddp_has_buckets_and_the_fused_kernels_reduce_in_place() -> None:
    plain = fixed_bytes(training("qwen3_1.8b", 8, "ddp", ranks=2, kernels="plain"))
    fused = fixed_bytes(training("qwen3_1.8b", 8, "ddp", ranks=2))
    assert plain.communication == plain.gradients
    assert fused.communication == 0


def test_a_cpu_rounds_no_weights() -> None:
    fixed = fixed_bytes(on_cpu("qwen3_smoke", 4))
    assert fixed.working_copies == 0
    assert fixed.workspaces == 0


def test_float8_weights_lie_both_ways() -> None:
    narrow = fixed_bytes(training("qwen3_1.8b", 8))
    float8 = fixed_bytes(training("qwen3_1.8b", 8, "float8"))
    blocks = multiplied(training("qwen3_1.8b", 8), blocks_only=True)
    assert float8.working_copies - narrow.working_copies == 2 * blocks

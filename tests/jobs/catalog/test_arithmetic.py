"""Counts of the five models, against the table that the project was designed from."""

import pytest

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.arithmetic import (
    flops_per_token,
    flops_per_token_causal,
    matmul_parameters,
    parameters,
)
from jobctl.jobs.catalog.loader import load_model

COUNTS = {
    "gpt2_1.36b": (1_267_322_112, 8_594_325_504, 8_084_717_568),
    "llama2_1.36b": (1_294_159_104, 8_341_291_008, 7_831_683_072),
    "llama3_1.5b": (1_544_628_224, 8_597_274_624, 8_144_289_792),
    "llama3_2.2b": (2_224_154_624, 13_278_117_888, 12_523_143_168),
    "qwen3_1.8b": (1_830_395_904, 10_322_706_432, 9_718_726_656),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_flops_are_those_of_the_design(name: str) -> None:
    model = load_model(name).config
    assert (parameters(model), flops_per_token(model, 2048), flops_per_token_causal(model, 2048)) == COUNTS[
        name
    ]


def test_a_tied_head_is_multiplied_but_counted_once() -> None:
    model = load_model("gpt2_1.36b").config
    embedding = model.vocab_size * model.hidden_size
    positions = model.max_position_embeddings * model.hidden_size
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    assert parameters(model) - matmul_parameters(model) == positions + norms
    assert matmul_parameters(model) > embedding


def test_causal_attention_is_half_of_full_attention() -> None:
    model = load_model("llama3_2.2b").config
    weights = 6 * matmul_parameters(model)
    assert 2 * (flops_per_token_causal(model, 512) - weights) == flops_per_token(model, 512) - weights


def test_parameters_without_tables_are_blocks_and_norms() -> None:
    for name in ("gpt2_1.36b", "llama3_1.5b", "qwen3_1.8b"):
        model = load_model(name).config
        blocks = model.num_hidden_layers * arithmetic.block_matmul_parameters(model)
        assert arithmetic.parameters_without_tables(model) == blocks + arithmetic.norm_parameters(model)

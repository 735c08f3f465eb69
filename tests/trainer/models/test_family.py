"""A family is what its declaration and its facts in the catalogue say of it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jobctl.jobs.catalog.arithmetic import flops_per_token, matmul_parameters, parameters
from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.layers.feed_forward import GatedFeedForward, GeluFeedForward, SwiGluFeedForward
from jobctl.trainer.models.layers.norm import LayerNorm, RMSNorm
from tests.trainer.models import tiny

NORMS = {"rms": RMSNorm, "layer": LayerNorm}
FEED_FORWARDS = {"swiglu": SwiGluFeedForward, "gelu": GeluFeedForward}

FULL_SIZE = {
    "gpt2_1.36b": (("gpt2", 50_304, 2304, 9216, 18, 18, 18, True), 1_267_322_112),
    "llama2_1.36b": (("llama", 32_000, 2304, 6144, 18, 18, 18, False), 1_294_159_104),
    "llama3_1.5b": (("llama", 128_256, 2048, 7168, 18, 16, 8, False), 1_544_628_224),
    "llama3_2.2b": (("llama", 128_256, 2048, 7168, 30, 16, 8, False), 2_224_154_624),
    "qwen3_1.8b": (("qwen3", 151_936, 2048, 6144, 24, 16, 8, False), 1_830_395_904),
}


def full_size(name: str) -> ModelConfig:
    architecture, vocabulary, width, inner, layers, heads, key_heads, tied = FULL_SIZE[name][0]
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=128,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
    )


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_every_family_is_as_large_as_its_facts_say(shape: str) -> None:
    with torch.device("meta"):
        model = build_model(tiny.config(shape), ManualAttention())
    built = sum(parameter.numel() for parameter in model.parameters())
    matrices = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    multiplied = sum(matrix.weight.numel() for matrix in matrices)
    tied = tiny.config(shape).tie_word_embeddings
    assert built == parameters(tiny.config(shape))
    assert multiplied + (101 * 48 if tied else 0) == matmul_parameters(tiny.config(shape))


@pytest.mark.parametrize("name", FULL_SIZE)
def test_parameters_are_as_many_as_the_arithmetic_says(name: str) -> None:
    config = full_size(name)
    with torch.device("meta"):
        model = build_model(config, ManualAttention())
    built = sum(parameter.numel() for parameter in model.parameters())
    assert built == parameters(config) == FULL_SIZE[name][1]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("shape", tiny.ONE_OF_EACH)
def test_a_step_multiplies_as_often_as_the_arithmetic_says(shape: str) -> None:
    """MFU and estimates stand on this number; torch counts the products that really happen."""
    model = tiny.model(shape)
    words = tiny.tokens(2, 32)
    with FlopCounterMode(display=False) as counter:
        # Not through the chunked loss: torch does not count what it adds in place.
        torch.nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten()).backward()
    assert counter.get_total_flops() == words.numel() * flops_per_token(model.config, 32)


@pytest.mark.parametrize("shape", tiny.ONE_OF_EACH)
def test_the_facts_of_the_catalogue_are_those_of_the_built_model(shape: str) -> None:
    facts = load_family(tiny.family(shape).name)
    with torch.device("meta"):
        model = build_model(tiny.config(shape), ManualAttention())
    (block, _) = model.each_block()
    assert facts.learned_positions == (model.embed_positions is not None)
    assert facts.rotary_positions == (model.rotary is not None)
    assert facts.qk_norm == (block.self_attn.q_norm is not None) == (block.self_attn.k_norm is not None)
    assert facts.gated_feed_forward == isinstance(block.mlp, GatedFeedForward)


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_the_declared_form_of_a_block_is_that_of_the_built_one(shape: str) -> None:
    """The fused kernels compute what is declared, whatever the model itself computes."""
    form = tiny.family(shape).fused_block
    assert form is not None
    with torch.device("meta"):
        model = build_model(tiny.config(shape), ManualAttention())
    for block in model.each_block():
        for norm in (model.norm, block.input_layernorm, block.post_attention_layernorm):
            assert type(norm) is NORMS[form.norm]
        assert type(block.mlp) is FEED_FORWARDS[form.feed_forward]

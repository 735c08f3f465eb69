"""Whole models through the fused kernels, against the plain path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.layers.decoder import Decoder
from tests.trainer.fused.reference import DEVICE, error
from tests.trainer.models import tiny


def fused(model: Decoder) -> FusedDecoder:
    made = FusedDecoder(model, ManualAttention(), torch.float32)
    model.fused = made.hidden_states
    model.cross_entropy = made.cross_entropy
    return made


def small(shape: str, **changes: object) -> Decoder:
    return tiny.model(shape, head_dim=16, hidden_size=64, vocab_size=256, **changes).to(DEVICE)


def tokens(seed: int, length: int = 16) -> Tensor:
    return tiny.tokens(2, length, seed=seed).to(DEVICE)


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_a_fused_model_has_the_plain_ones_gradients_over_two_micro_steps(shape: str) -> None:
    model = small(shape)
    batches = [(tokens(seed), tokens(seed + 9)) for seed in (1, 2)]
    for inputs, targets in batches:
        (model(inputs, targets) / 2).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    fused(model)
    for inputs, targets in batches:
        (model(inputs, targets) / 2).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert error(parameter.grad, expected[name]) < 1e-4, name


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_a_fused_model_keeps_documents_apart_as_the_plain_one_does(shape: str) -> None:
    model = small(shape)
    inputs = tokens(1, 12)
    documents = torch.tensor([[0] * 5 + [1] * 7, [0] * 12], device=DEVICE)
    with torch.no_grad():
        plain = model.hidden_states(inputs, documents)
        together = model.hidden_states(inputs)
        fused(model)
        got = model.hidden_states(inputs, documents)
    assert error(got, plain) < 1e-5
    assert error(got, together) > 1e-2


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_the_embeddings_projection_and_is_used_twice(tied: bool) -> None:
    made = fused(small("llama-mha", tie_word_embeddings=tied))
    assert (made.head is made.embedding) == tied
    assert made.embedding.uses == (2 if tied else 1)
    assert len(made.ends) == (1 if tied else 2)
    assert len(made.projections) == len(made.ends) + 4 * len(made.blocks)
    assert len({id(weight) for weight in made.weights}) == len(made.weights)


def test_after_a_step_that_left_the_copies_the_model_computes_with_the_new_weights() -> None:
    model = small("qwen3")
    made = fused(model)
    inputs = tokens(1)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(2)
        stale = model.hidden_states(inputs)
        made.end_step(copied=False)
        renewed = model.hidden_states(inputs)
        model.fused = None
        plain = model.hidden_states(inputs)
    assert error(renewed, plain) < 1e-5
    assert error(stale, plain) > 1e-2


def test_a_model_with_biases_is_refused() -> None:
    with pytest.raises(ValueError, match="no biases, but the model has"):
        FusedDecoder(tiny.model("gpt2-biases"), ManualAttention(), torch.float32)


def test_float8_leaves_embedding_and_head_as_they_are() -> None:
    made = fused(small("qwen3"))
    made.use_fp8()
    assert made.scales is not None
    # Four projections of a block, each with a scale for its input and one for its gradient.
    assert len(made.scales.formats) == 8 * len(made.blocks)
    assert all(len(block.fp8) == 4 for block in made.blocks)


def test_an_evaluation_leaves_no_trace_in_float8s_scales() -> None:
    made = fused(small("qwen3"))
    made.end_evaluation()
    made.use_fp8()
    assert made.scales is not None
    made.scales.amax.fill_(3.0)
    made.end_evaluation()
    assert not made.scales.amax.any()

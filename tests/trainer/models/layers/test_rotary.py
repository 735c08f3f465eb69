"""Rotations: what they keep, where they begin, and the bits of the tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jobctl.trainer.models.layers.rotary import RotaryEmbedding, llama3_frequencies, scaling_of
from tests.trainer.models.tiny import config

HEAD_DIM = 16
THETA = 10_000.0


def heads(length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, length, 3, HEAD_DIM, generator=generator)


@pytest.fixture(scope="module")
def rotary() -> RotaryEmbedding:
    return RotaryEmbedding(HEAD_DIM, 64, THETA)


def test_position_zero_is_not_turned(rotary: RotaryEmbedding) -> None:
    x = heads(1)

    assert torch.equal(rotary(x), x)


def test_a_rotation_keeps_the_length_of_each_pair(rotary: RotaryEmbedding) -> None:
    x = heads(20)
    turned = rotary(x)

    first, second = x.chunk(2, dim=-1)
    turned_first, turned_second = turned.chunk(2, dim=-1)

    assert torch.allclose(first**2 + second**2, turned_first**2 + turned_second**2, atol=1e-5)


def test_a_pair_turns_by_its_frequency_times_the_position(rotary: RotaryEmbedding) -> None:
    x = torch.zeros(1, 8, 1, HEAD_DIM)
    x[..., 3] = 1.0
    turned = rotary(x)

    angle = 7 * THETA ** (-2 * 3 / HEAD_DIM)
    assert turned[0, 7, 0, 3].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert turned[0, 7, 0, 3 + HEAD_DIM // 2].item() == pytest.approx(math.sin(angle), abs=1e-6)


def test_a_product_of_two_heads_depends_on_their_distance_alone(rotary: RotaryEmbedding) -> None:
    """RoFormer's equation 11, which is why a cache can hold rotated keys."""
    query = heads(1, seed=1)
    key = heads(1, seed=2)
    products = [(rotary(query, start + 5) * rotary(key, start)).sum(-1) for start in (0, 9, 58)]

    assert torch.allclose(products[0], products[1], atol=1e-4)
    assert torch.allclose(products[0], products[2], atol=1e-4)


def test_a_start_is_the_position_of_the_first_token(rotary: RotaryEmbedding) -> None:
    x = heads(12)

    assert torch.equal(rotary(x)[:, 7:], rotary(x[:, 7:], start=7))


def test_a_narrow_head_is_turned_in_float32(rotary: RotaryEmbedding) -> None:
    x = heads(40)
    turned = rotary(x.bfloat16())

    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotary(x.bfloat16().float()).bfloat16())


def test_the_tables_are_no_part_of_a_checkpoint_and_can_be_filled_again(rotary: RotaryEmbedding) -> None:
    with torch.device("meta"):
        empty = RotaryEmbedding(HEAD_DIM, 64, THETA)
    empty.to_empty(device="cpu")
    empty.fill_tables()

    assert list(empty.state_dict()) == []
    assert torch.equal(empty.cos, rotary.cos)
    assert torch.equal(empty.sin, rotary.sin)


@pytest.mark.parametrize("shape", ["llama-3.1", "llama-linear", "llama-gqa"])
def test_the_frequencies_have_the_bits_of_transformers(shape: str) -> None:
    from transformers import AutoConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from jobctl.trainer.interop.hf_folder import hf_config

    ours = config(shape, head_dim=HEAD_DIM, max_position_embeddings=64)
    theirs_config = AutoConfig.for_model(**hf_config(ours, "float32", {}))
    theirs = LlamaRotaryEmbedding(theirs_config).inv_freq

    exponents = torch.arange(0, HEAD_DIM, 2, dtype=torch.float32) / HEAD_DIM
    frequencies = 1.0 / ours.rope_theta**exponents
    scaling = scaling_of(ours)

    assert torch.equal(scaling(frequencies) if scaling else frequencies, theirs)


def test_llama3_leaves_fast_pairs_and_divides_slow_ones() -> None:
    ours = config("llama-3.1", rope_original_positions=8192)
    fast = torch.tensor([1.0])
    slow = torch.tensor([2 * math.pi / 100_000])

    assert llama3_frequencies(fast, ours).item() == 1.0
    assert llama3_frequencies(slow, ours).item() == pytest.approx(slow.item() / ours.rope_factor)


def test_llama3_is_monotonous_between_the_two() -> None:
    ours = config("llama-3.1", rope_original_positions=8192)
    frequencies = torch.logspace(0, -6, 500)
    scaled = llama3_frequencies(frequencies, ours)

    assert bool((scaled[1:] <= scaled[:-1]).all())
    assert bool((scaled <= frequencies).all())

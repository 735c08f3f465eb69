"""The attention layer: groups of queries, norms of queries and keys, the cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.cache import LayerCache
from jobctl.trainer.models.layers.rotary import RotaryEmbedding
from jobctl.trainer.models.layers.self_attention import SelfAttention
from tests.trainer.models.tiny import config


def layer(shape: str = "llama-gqa", qk_norm: bool = False, **changes: Any) -> SelfAttention:
    torch.manual_seed(0)
    sizes = config(shape, **changes)
    rotary = RotaryEmbedding(sizes.head_dim, 64, 10_000.0)
    return SelfAttention(sizes, ManualAttention(), rotary, qk_norm)


def inputs(length: int = 9, seed: int = 1) -> Tensor:
    return torch.randn(2, length, 48, generator=torch.Generator().manual_seed(seed))


def test_no_token_sees_a_later_one() -> None:
    attention = layer()
    x = inputs()
    changed = x.clone()
    changed[:, 5:] += 1

    before = attention(x)
    after = attention(changed)

    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_a_group_of_queries_shares_its_key_and_value() -> None:
    """Two groups of two queries are four heads whose keys and values are each written twice."""
    grouped = layer(num_key_value_heads=2)
    whole = layer(num_key_value_heads=4)
    with torch.no_grad():
        whole.q_proj.weight.copy_(grouped.q_proj.weight)
        whole.o_proj.weight.copy_(grouped.o_proj.weight)
        for wide, narrow in ((whole.k_proj, grouped.k_proj), (whole.v_proj, grouped.v_proj)):
            rows = narrow.weight.unflatten(0, (2, grouped.head_dim))
            wide.weight.copy_(rows.repeat_interleave(2, dim=0).flatten(0, 1))

    assert torch.allclose(grouped(inputs()), whole(inputs()), atol=1e-6)


def test_a_cache_gives_what_the_whole_sequence_gives() -> None:
    attention = layer(qk_norm=True)
    x = inputs(9)
    shape = (2, 9, 2, attention.head_dim)
    cache = LayerCache(torch.empty(shape), torch.empty(shape))

    pieces = [attention(x[:, start:end], cache=cache) for start, end in ((0, 4), (4, 5), (5, 9))]

    assert torch.allclose(torch.cat(pieces, dim=1), attention(x), atol=1e-6)
    assert cache.length == 9


def test_documents_do_not_see_each_other() -> None:
    attention = layer()
    x = inputs(8)
    ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]] * 2)
    changed = x.clone()
    changed[:, :3] += 1

    assert torch.equal(attention(x, ids)[:, 3:], attention(changed, ids)[:, 3:])
    assert not torch.allclose(attention(x)[:, 3:], attention(changed)[:, 3:])


def test_norms_of_queries_and_keys_make_their_size_irrelevant() -> None:
    attention = layer(qk_norm=True)
    before = attention(inputs())
    with torch.no_grad():
        attention.q_proj.weight *= 7
        attention.k_proj.weight *= 5

    assert torch.allclose(attention(inputs()), before, atol=1e-4)


def test_the_gain_of_the_norms_has_the_size_of_one_head() -> None:
    attention = layer("qwen3", qk_norm=True)
    assert attention.q_norm is not None
    assert attention.k_norm is not None

    assert attention.q_norm.weight.shape == attention.k_norm.weight.shape == (16,)
    assert layer("qwen3").q_norm is None


def test_a_head_may_be_wider_than_its_share_of_the_model() -> None:
    attention = layer("qwen3", head_dim=16)

    assert attention.q_proj.weight.shape == (64, 48)
    assert attention.o_proj.weight.shape == (48, 64)
    assert attention(inputs()).shape == (2, 9, 48)

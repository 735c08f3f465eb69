"""The cache of keys and values: what is appended comes back in order, and no more than it holds."""

from __future__ import annotations

import pytest
import torch

from jobctl.trainer.models.cache import KeyValueCache, LayerCache
from tests.trainer.models.tiny import config, model, tokens


def piece(length: int, value: float) -> torch.Tensor:
    return torch.full((1, length, 2, 4), value)


def empty(capacity: int = 6) -> LayerCache:
    return LayerCache(piece(capacity, float("nan")), piece(capacity, float("nan")))


def test_pieces_come_back_in_the_order_in_which_they_came() -> None:
    cache = empty()
    cache.append(piece(2, 1.0), piece(2, 10.0))
    keys, values = cache.append(piece(3, 2.0), piece(3, 20.0))

    assert keys[0, :, 0, 0].tolist() == [1, 1, 2, 2, 2]
    assert values[0, :, 1, 3].tolist() == [10, 10, 20, 20, 20]
    assert cache.length == 5


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    cache = empty(4)
    cache.append(piece(3, 1.0), piece(3, 1.0))

    with pytest.raises(ValueError, match="the cache holds 4 positions, not 5"):
        cache.append(piece(2, 2.0), piece(2, 2.0))

    assert cache.length == 3
    assert torch.isnan(cache.keys[:, 3:]).all()


def test_there_is_one_for_each_block_in_the_shape_of_its_keys() -> None:
    sizes = config("llama-gqa", num_hidden_layers=3)
    cache = KeyValueCache(sizes, 2, 8, torch.device("cpu"), torch.bfloat16)

    assert len(cache.layers) == 3
    assert cache.layers[0].keys.shape == (2, 8, 2, 12)
    assert cache.layers[2].values.dtype == torch.bfloat16
    assert cache.length == 0


def test_no_two_blocks_share_their_memory() -> None:
    cache = KeyValueCache(config("gpt2"), 1, 4, torch.device("cpu"), torch.float32)
    places = {tensor.data_ptr() for layer in cache.layers for tensor in (layer.keys, layer.values)}

    assert len(places) == 4


@pytest.mark.parametrize("shape", ["gpt2", "llama-3.1", "qwen3"])
def test_token_by_token_gives_the_states_of_the_whole_sequence(shape: str) -> None:
    decoder = model(shape).eval()
    ids = tokens(2, 11)
    cache = KeyValueCache(decoder.config, 2, 11, torch.device("cpu"), torch.float32)

    with torch.no_grad():
        whole = decoder.hidden_states(ids)
        steps = [decoder.hidden_states(ids[:, at : at + 1], cache=cache) for at in range(11)]

    assert torch.allclose(torch.cat(steps, dim=1), whole, atol=2e-5)

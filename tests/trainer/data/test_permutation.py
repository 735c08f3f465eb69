from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.trainer.data.permutation import key, permute


@given(st.integers(1, 2000), st.integers(0, 99))
def test_every_place_is_taken_once(size: int, seed: int) -> None:
    keys = key("fingerprint", seed)
    assert sorted(permute(i, size, keys) for i in range(size)) == list(range(size))


def test_it_is_the_same_on_every_machine() -> None:
    assert [permute(i, 10**12, key("fingerprint", 1337, 0)) for i in range(3)] == [
        613053555088, 711336880733, 309933553092
    ]  # fmt: skip


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(permute(i, 100, key("f", seed, epoch)) for i in range(100))
              for seed in range(3) for epoch in range(3)}  # fmt: skip
    assert len(orders) == 9


def test_neighbours_are_scattered() -> None:
    size = 100_000
    keys = key("f", 0)
    places = [permute(i, size, keys) for i in range(1000)]
    gaps = [abs(a - b) for a, b in pairwise(places)]
    assert size / 4 < sum(gaps) / len(gaps) < size / 2  # a uniform order has size / 3
    assert 0.4 < sum(place < size // 2 for place in places) / 1000 < 0.6


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(IndexError):
        permute(10, 10, key("f"))

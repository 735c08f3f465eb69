from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.optim.schedule import learning_rate

TRAIN = TrainConfig(learning_rate=1e-3, min_lr=1e-4, warmup_iters=10, lr_decay_iters=110, max_iters=200)


def test_warm_up_is_a_line_to_the_peak() -> None:
    rates = [learning_rate(step, TRAIN) for step in range(11)]
    assert rates == pytest.approx([1e-3 * (step + 1) / 11 for step in range(11)])


def test_half_way_is_the_mean_and_the_end_is_the_minimum() -> None:
    assert learning_rate(60, TRAIN) == pytest.approx((1e-3 + 1e-4) / 2)
    assert learning_rate(35, TRAIN) == pytest.approx(1e-4 + 9e-4 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(110, TRAIN) == learning_rate(199, TRAIN) == 1e-4


def test_without_a_decay_length_the_run_is_it() -> None:
    train = TrainConfig(learning_rate=1e-3, min_lr=1e-4, warmup_iters=0, lr_decay_iters=0, max_iters=100)
    assert learning_rate(0, train) == 1e-3
    assert learning_rate(50, train) == pytest.approx(5.5e-4)
    assert learning_rate(100, train) == 1e-4


def test_a_run_shorter_than_its_warm_up_only_warms_up() -> None:
    train = TrainConfig(learning_rate=1e-3, warmup_iters=2000, max_iters=10)
    assert [learning_rate(step, train) for step in range(10)] == pytest.approx(
        [1e-3 * (s + 1) / 2001 for s in range(10)]
    )


@given(
    warmup=st.integers(0, 50), decay=st.integers(0, 120), last=st.integers(1, 100), step=st.integers(0, 300)
)
def test_always_between_zero_and_the_peak(warmup: int, decay: int, last: int, step: int) -> None:
    train = TrainConfig(
        learning_rate=1e-3, min_lr=1e-4, warmup_iters=warmup, lr_decay_iters=decay, max_iters=last
    )
    assert 0 < learning_rate(step, train) <= 1e-3
    if step >= warmup:
        assert learning_rate(step, train) >= learning_rate(step + 1, train)

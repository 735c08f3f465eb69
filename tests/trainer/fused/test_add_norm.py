"""The sum of the residual stream and its norm in one pass, against plain PyTorch."""

from __future__ import annotations

import pytest
import torch

from jobctl.trainer.fused import add_norm as norm
from tests.trainer.fused.reference import DEVICE, TYPES, agree, error, random, same_bits_again

KINDS: list[norm.Kind] = ["rms", "layer"]
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [64, 96, 101])
@both_kinds
def test_sum_norm_and_their_gradients_are_the_plain_ones(
    kind: norm.Kind, size: int, dtype: torch.dtype
) -> None:
    x = random(2, 5, size, dtype=dtype)
    delta = random(2, 5, size, dtype=dtype)
    weight = random(size)
    up = [random(2, 5, size, dtype=dtype) for _ in range(2)]
    agree(
        lambda a, b, w: norm.add_norm(a, b, w, 1e-5, kind),
        lambda a, b, w: norm.plain_add_norm(a, b, w, 1e-5, kind),
        [x, delta, weight],
        up,
    )
    agree(
        lambda a, w: norm.add_norm(a, None, w, 1e-5, kind),
        lambda a, w: norm.plain_add_norm(a, None, w, 1e-5, kind),
        [x, weight],
        up,
    )


@both_kinds
def test_a_sum_that_nobody_uses_has_no_part_in_the_gradient(kind: norm.Kind) -> None:
    """The final norm's sum is such a one."""
    up = random(7, 33)
    agree(
        lambda a, b, w: norm.add_norm(a, b, w, 1e-5, kind)[1],
        lambda a, b, w: norm.plain_add_norm(a, b, w, 1e-5, kind)[1],
        [random(7, 33), random(7, 33), random(33)],
        [up],
    )


@both_kinds
def test_the_gradient_of_the_gain_is_summed_in_a_fixed_order(kind: norm.Kind) -> None:
    inputs = [random(31, 40), random(31, 40), random(40)]
    same_bits_again(
        lambda a, b, w: norm.add_norm(a, b, w, 1e-5, kind), inputs, [random(31, 40), random(31, 40)]
    )


@both_kinds
def test_the_norm_made_again_has_the_bits_of_the_forward_pass(kind: norm.Kind) -> None:
    """In float16, where the rounded sum and the exact one have different norms."""
    x = random(6, 50, dtype=torch.float16)
    delta = random(6, 50, dtype=torch.float16)
    weight = random(50)
    total, y = norm.add_norm(x, delta, weight, 1e-5, kind)
    assert torch.equal(total, x + delta)
    assert torch.equal(norm.normed(total, weight, 1e-5, kind), y)


@both_kinds
def test_rows_of_zeros_stay_zeros_and_finite(kind: norm.Kind) -> None:
    x = random(3, 20)
    x[1] = 0
    x.requires_grad_()
    _, y = norm.add_norm(x, None, random(20), 1e-5, kind)
    y.sum().backward()
    assert not y[1].any()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_a_large_mean_takes_nothing_from_the_precision_of_a_layer_norm() -> None:
    """Columns beyond the row would add mean² to the variance if they were not left out."""
    x = 1000 + random(4, 65)
    weight = random(65)
    _, expected = norm.plain_add_norm(x.double(), None, weight, 1e-5, "layer")
    assert error(norm.normed(x, weight, 1e-5, "layer"), expected) < 1e-4


def test_rows_that_lie_apart_in_memory_are_read_as_they_are() -> None:
    x = random(8, 30)[::2]
    weight = random(30)
    assert torch.equal(norm.normed(x, weight, 1e-5, "rms"), norm.normed(x.clone(), weight, 1e-5, "rms"))


def test_there_are_no_more_programs_than_rows() -> None:
    assert norm.programs(1, torch.device("cpu"), 2) == 1
    assert norm.programs(1, DEVICE, 2) == 1

"""One update of AdamW on one tensor, against its formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from jobctl.trainer.fused.adamw_kernel import BLOCK, update
from tests.trainer.fused.reference import DEVICE, error, random

RATE = 1e-2
BETAS = (0.9, 0.95)
EPS = 1e-8
DECAY = 0.1


def scalar(value: float) -> Tensor:
    return torch.tensor(value, device=DEVICE)


def updated(tensors: list[Tensor], step: int = 1, **changes: Any) -> None:
    """Update weight, gradient and moments in place."""
    arguments: dict[str, Any] = {
        "copy": None,
        "factor": scalar(1.0),
        "skipped": scalar(0.0),
        "rate": RATE,
        "betas": BETAS,
        "eps": EPS,
        "decay": DECAY,
    }
    update(*tensors, scalar(float(step)), **{**arguments, **changes})


def formula(weight: Tensor, grad: Tensor, first: Tensor, second: Tensor, step: int) -> list[Tensor]:
    """Algorithm 2 of Loshchilov and Hutter 2019, with the decay of torch: rate · decay · weight."""
    beta1, beta2 = BETAS
    first = beta1 * first + (1 - beta1) * grad
    second = beta2 * second + (1 - beta2) * grad.square()
    corrected = (second / (1 - beta2**step)).sqrt() + EPS
    return [weight - RATE * DECAY * weight - RATE * first / (1 - beta1**step) / corrected, first, second]


def state(size: int) -> list[Tensor]:
    return [random(size), random(size), random(size), random(size).square()]


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 37])
def test_weight_and_moments_follow_the_formula(size: int, step: int) -> None:
    weight, grad, first, second = state(size)
    expected = formula(*(t.double() for t in (weight, 0.5 * grad, first, second)), step)
    updated([weight, grad, first, second], step, factor=scalar(0.5))
    assert all(error(got, value) < 1e-5 for got, value in zip((weight, first, second), expected, strict=True))


def test_nothing_beyond_the_tensor_is_written() -> None:
    """The tensors of a rank's rows lie in the middle of larger ones."""
    memory = [random(BLOCK).abs() for _ in range(4)]
    before = [each.clone() for each in memory]
    updated([each[:100] for each in memory])
    assert all(torch.equal(now[100:], old[100:]) for now, old in zip(memory, before, strict=True))


def test_the_first_step_moves_each_weight_by_the_rate_however_large_its_gradient() -> None:
    """Without the correction of the moments, which begin at 0, it would be about half of it."""
    weight = torch.zeros(5, device=DEVICE)
    grad = torch.tensor([1e-5, -1e-2, 1.0, -1e3, 1e6], device=DEVICE)
    updated([weight, grad, torch.zeros_like(weight), torch.zeros_like(weight)])
    torch.testing.assert_close(weight, -RATE * grad.sign(), rtol=2e-3, atol=0)


def test_the_copy_is_the_new_weight_rounded() -> None:
    weight, *others = state(50)
    copy = torch.zeros(50, dtype=torch.float16, device=DEVICE)
    updated([weight, *others], copy=copy)
    assert torch.equal(copy, weight.half())


def test_a_skipped_step_leaves_weight_moments_and_copy_as_they_are_even_with_nan() -> None:
    tensors = state(60)
    tensors[1][7] = math.nan
    copy = random(60)
    before = [tensor.clone() for tensor in (tensors[0], *tensors[2:], copy)]
    updated(tensors, copy=copy, skipped=scalar(1.0), factor=scalar(math.nan))
    assert all(map(torch.equal, (tensors[0], *tensors[2:], copy), before))


def test_without_decay_a_weight_without_gradient_stays() -> None:
    weight = random(9)
    before = weight.clone()
    zeros = [torch.zeros_like(weight) for _ in range(3)]
    updated([weight, *zeros], decay=0.0)
    assert torch.equal(weight, before)
    updated([weight, *zeros])
    torch.testing.assert_close(weight, before * (1 - RATE * DECAY))

"""SwiGLU and GELU in one pass, against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from jobctl.trainer.fused import activation, linear
from tests.trainer.fused.reference import TYPES, agree, error, random, results


def projected(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> linear.Projection:
    weight = nn.Parameter(random(rows, columns))
    projection = linear.Projection([weight], dtype)
    projection.working.copy_(weight.detach())
    return projection


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("width", [96, activation.COLUMNS + 5])
def test_swiglu_before_a_projection_gives_the_plain_gradients(width: int, dtype: torch.dtype) -> None:
    """15 rows and these widths fill no tile, and the second one begins another."""
    projection = projected(32, width, dtype)
    x = random(3, 5, 2 * width, dtype=dtype)
    up = random(3, 5, 32, dtype=dtype)
    agree(
        lambda a: activation.swiglu_project(a, projection),
        lambda a: activation.plain_swiglu(a) @ projection.working.double().t(),
        [x],
        [up],
    )
    (weight,) = projection.weights
    hidden = activation.plain_swiglu(x.double())
    assert weight.grad is not None
    assert error(weight.grad, torch.einsum("btr,btc->rc", up.double(), hidden)) < 6e-3


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_gelu_before_a_projection_gives_the_plain_gradients(dtype: torch.dtype) -> None:
    projection = projected(32, 192, dtype)
    x = random(3, 5, 192, dtype=dtype)
    up = random(3, 5, 32, dtype=dtype)
    agree(
        lambda a: activation.gelu_project(a, projection),
        lambda a: activation.plain_gelu(a) @ projection.working.double().t(),
        [x],
        [up],
    )
    (weight,) = projection.weights
    hidden = activation.plain_gelu(x.double())
    assert weight.grad is not None
    assert error(weight.grad, torch.einsum("btr,btc->rc", up.double(), hidden)) < 6e-3


@pytest.mark.parametrize(
    ("project", "inputs"), [(activation.gelu_project, 1), (activation.swiglu_project, 2)]
)
def test_an_activation_that_is_computed_again_gives_the_same_bits(
    project: Callable[..., Tensor], inputs: int
) -> None:
    x = random(2, 7, 48 * inputs)
    up = [random(2, 7, 16)]
    kept = projected(16, 48)
    again = projected(16, 48)
    again.working.copy_(kept.working)

    first = results(lambda a: project(a, kept), [x], up)
    second = results(lambda a: project(a, again, keep=False), [x], up)
    assert all(map(torch.equal, first, second))
    assert torch.equal(kept.weights[0].grad, again.weights[0].grad)  # type: ignore[arg-type]


def gelu(x: Tensor) -> Tensor:
    return activation.gelu_forward(x)


def gelu_slope(x: Tensor) -> Tensor:
    return activation.gelu_backward(x, torch.ones_like(x))


def swiglu(x: Tensor) -> Tensor:
    return activation.swiglu_forward(torch.cat([x, torch.ones_like(x)], dim=-1))


@pytest.mark.parametrize(
    ("function", "far"), [(gelu, [0.0, 90.0]), (gelu_slope, [0.0, 1.0]), (swiglu, [0.0, 90.0])]
)
def test_far_from_zero_nothing_overflows(function: Callable[[Tensor], Tensor], far: list[float]) -> None:
    """exp(90) is beyond float32."""
    got = function(random(1, 2) * 0 + torch.tensor([-90.0, 90.0], device=random(1).device))
    torch.testing.assert_close(got.cpu(), torch.tensor([far]))


@pytest.mark.parametrize("size", [1, 4 * activation.COLUMNS + 1])
def test_the_slope_of_gelu_is_torchs_at_any_size(size: int) -> None:
    x = random(size).requires_grad_()
    activation.plain_gelu(x).sum().backward()
    assert x.grad is not None
    assert error(gelu_slope(x.detach()), x.grad) < 1e-5

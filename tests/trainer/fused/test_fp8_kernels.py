"""One pass rounds a matrix to float8, both ways, and measures it."""

from __future__ import annotations

import pytest
import torch
import triton
from torch import Tensor

from jobctl.trainer.fused.fp8_kernels import TILE, round_gradient_kernel, round_kernel
from tests.trainer.fused.reference import DEVICE, error, random

SIZES = [(1, 1), (TILE, TILE), (TILE + 1, 2 * TILE - 3)]


def rounded(x: Tensor, scale: float, dtype: torch.dtype, amax: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return x rounded, its transpose rounded, and the largest value."""
    rows, columns = x.shape
    out = torch.empty(rows, columns, dtype=dtype, device=DEVICE)
    turned = torch.empty(columns, rows, dtype=dtype, device=DEVICE)
    amax = torch.zeros((), device=DEVICE) if amax is None else amax
    grid = (triton.cdiv(rows, TILE), triton.cdiv(columns, TILE))
    factor = torch.tensor(scale, device=DEVICE)
    largest = torch.finfo(dtype).max
    round_kernel[grid](x, out, turned, amax, factor, largest, rows, columns, MODE=0, TILE=TILE)
    return out, turned, amax


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_value_that_float8_has_stays_as_it_is_in_both_matrices(size: tuple[int, int]) -> None:
    x = torch.randint(-8, 9, size, device=DEVICE).float()
    out, turned, amax = rounded(x, 2.0, torch.float8_e4m3fn)
    assert torch.equal(out.float(), 2 * x)
    assert torch.equal(turned.float(), 2 * x.t())
    assert amax == x.abs().max()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_a_value_beyond_the_largest_becomes_the_largest(dtype: torch.dtype) -> None:
    """Not an infinity or a NaN, which one large value would spread over a whole product."""
    x = torch.tensor([[1e9, -1e9, 1.0]], device=DEVICE)
    out, turned, _ = rounded(x, 1.0, dtype)
    largest = torch.finfo(dtype).max
    assert out.float().tolist() == [[largest, -largest, 1.0]]
    assert torch.equal(turned.float(), out.float().t())


def test_the_largest_value_of_several_matrices_of_a_step_is_kept() -> None:
    amax = torch.zeros((), device=DEVICE)
    for largest in (2.0, 5.0, 3.0):
        rounded(torch.tensor([[-largest, 1.0]], device=DEVICE), 1.0, torch.float8_e4m3fn, amax)
    assert amax == 5.0


def test_both_halves_of_a_gated_gradient_are_measured_together() -> None:
    rows = 3
    columns = TILE + 7
    gate = random(rows, columns)
    up = random(rows, columns)
    dout = random(rows, columns)
    out = torch.empty(rows, 2 * columns, dtype=torch.float8_e5m2, device=DEVICE)
    turned = torch.empty(2 * columns, rows, dtype=torch.float8_e5m2, device=DEVICE)
    amax = torch.zeros((), device=DEVICE)
    x = torch.cat([gate, up], dim=1).requires_grad_()
    (torch.nn.functional.silu(x[:, :columns]) * x[:, columns:]).backward(dout)
    assert x.grad is not None

    factor = torch.ones((), device=DEVICE)
    largest = torch.finfo(torch.float8_e5m2).max
    grid = (triton.cdiv(rows, TILE), triton.cdiv(columns, TILE))
    round_gradient_kernel[grid](
        x.detach(), dout, out, turned, amax, factor, largest, rows, columns, GATED=True, TILE=TILE
    )
    torch.testing.assert_close(amax, x.grad.abs().max())
    assert error(out.float(), x.grad) < 0.2
    assert error(turned.float().t(), x.grad) < 0.2

"""Norms compute in float32 and answer in the type of their input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jobctl.trainer.models.layers.norm import LayerNorm, Norm, RMSNorm

EPS = 1e-6


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rms_norm_is_torchs_own_in_float32() -> None:
    norm = RMSNorm(24, EPS)
    torch.nn.init.normal_(norm.weight)
    x = values(3, 5, 24)

    assert torch.allclose(norm(x), F.rms_norm(x, (24,), norm.weight, EPS), atol=1e-6)


def test_rms_norm_of_one_size_is_one() -> None:
    """A row of equal values has their size as its rms."""
    norm = RMSNorm(8, 0.0)

    assert torch.allclose(norm(torch.full((2, 8), -3.0)), torch.full((2, 8), -1.0))


@pytest.mark.parametrize("norm", [RMSNorm(16, EPS), LayerNorm(16, EPS)], ids=["rms", "layer"])
def test_a_narrow_input_is_widened_before_it_is_squared(norm: Norm) -> None:
    """The square of 300 is beyond float16, and the mean of squares loses its digits in bfloat16."""
    x = 300 * values(4, 16)

    for dtype, tolerance in ((torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
        narrow = norm(x.to(dtype)) if isinstance(norm, RMSNorm) else norm(x.to(dtype).float()).to(dtype)
        assert narrow.dtype == dtype
        assert torch.allclose(narrow.float(), norm(x), atol=4 * tolerance)


def test_rms_norm_keeps_float64() -> None:
    x = values(2, 8).double()

    assert RMSNorm(8, EPS)(x).dtype == torch.float64


def test_layer_norm_has_a_bias_only_where_it_is_asked_for() -> None:
    assert LayerNorm(8, EPS).bias is None
    assert [name for name, _ in LayerNorm(8, EPS, bias=True).named_parameters()] == ["weight", "bias"]


def test_layer_norm_is_centred_and_of_unit_variance() -> None:
    out = LayerNorm(64, 0.0)(5 + 3 * values(10, 64))

    assert torch.allclose(out.mean(-1), torch.zeros(10), atol=1e-5)
    assert torch.allclose(out.var(-1, unbiased=False), torch.ones(10), atol=1e-4)


def test_a_gain_is_filled_with_the_familys_initial_value() -> None:
    """A family with (1 + w) norms begins with zero."""

    class ShiftedNorm(RMSNorm):
        initial_gain = 0.0

    for norm, initial in ((RMSNorm(4, EPS), 1.0), (ShiftedNorm(4, EPS), 0.0)):
        torch.nn.init.normal_(norm.weight)
        norm.reset_gain()
        assert norm.weight.tolist() == [initial] * 4
        assert norm.weight.dtype == torch.float32

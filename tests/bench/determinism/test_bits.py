"""Bits are compared as bits, and digests tell tensors apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.determinism.bits import differing, digest, repeat


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8], ids=str)
def test_a_changed_element_is_counted(dtype: torch.dtype) -> None:
    one = torch.arange(12, dtype=torch.float32).reshape(3, 4).to(dtype)
    other = one.clone()
    other[1, 2] += 1
    assert differing({"x": one}, {"x": other}) == {"x": 1}
    assert differing({"x": one.t()}, {"x": one.clone().t()}) == {}
    assert digest([one]) != digest([other])
    assert digest([one]) == digest([one.clone()])


def test_nan_equals_itself_and_minus_zero_is_not_zero() -> None:
    nan = torch.tensor([float("nan")])
    zero = torch.tensor([0.0])
    assert differing({"x": nan}, {"x": nan.clone()}) == {}
    assert differing({"x": zero}, {"x": -zero}) == {"x": 1}


def test_a_digest_knows_where_an_element_is_and_in_which_tensor() -> None:
    one = torch.tensor([1.0, 2.0])
    other = torch.tensor([2.0, 1.0])
    assert len({digest([one]), digest([other]), digest([one, other]), digest([other, one])}) == 4


def test_the_worst_of_the_repeats_is_reported_for_each_output() -> None:
    calls: list[int] = []

    def run() -> dict[str, Tensor]:
        calls.append(1)
        return {"steady": torch.ones(4), "worse and worse": torch.arange(4) < len(calls)}

    disturbed: list[int] = []
    assert repeat(run, 3, lambda: disturbed.append(1)) == {"worse and worse": 2}
    assert (len(calls), len(disturbed)) == (3, 2)

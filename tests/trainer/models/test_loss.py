from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jobctl.trainer.models import loss
from jobctl.trainer.models.loss import (
    CrossEntropy,
    Kernel,
    chunk_length,
    losses_and_gradient,
    losses_and_gradient_on_cpu,
    token_losses,
)


def problem(
    tokens: int = 300, width: int = 12, vocabulary: int = 37, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    targets[::7] = -100
    return hidden, weight, targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(hidden @ weight.t(), targets, reduction=reduction)


@pytest.mark.parametrize("kernel", [losses_and_gradient, losses_and_gradient_on_cpu])
@pytest.mark.parametrize("chunk_elements", [1, 37 * 128, 37 * 256, 2**29])
def test_chunked_is_plain_in_float64(chunk_elements: int, kernel: Kernel) -> None:
    hidden, weight, targets = problem()
    expected = plain(hidden, weight, targets)
    wanted = torch.autograd.grad(3 * expected, (hidden, weight))
    result = CrossEntropy(chunk_elements, kernel)(hidden, weight, targets)
    got = torch.autograd.grad(3 * result, (hidden, weight))
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("chunk_elements", [1, 2**29])
def test_losses_one_by_one_have_gradients_too(chunk_elements: int) -> None:
    hidden, weight, targets = problem()
    weights = torch.linspace(0, 1, 300, dtype=torch.float64)
    expected = (plain(hidden, weight, targets, "none") * weights).sum()
    result = (CrossEntropy(chunk_elements)(hidden, weight, targets, "none") * weights).sum()
    torch.testing.assert_close(result, expected)
    wanted = torch.autograd.grad(expected, (hidden, weight))
    for one, other in zip(torch.autograd.grad(result, (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_never_more_logits_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def counting(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        rows.append(len(logits))
        return losses_and_gradient(logits, targets)

    CrossEntropy(37 * 128, counting)(*problem(tokens=1000))
    assert max(rows) <= 128
    assert sum(rows) == 1000
    evaluated: list[int] = []
    monkeypatch.setattr(loss, "token_losses", lambda a, b: evaluated.append(len(a)) or token_losses(a, b))
    with torch.no_grad():
        mean = CrossEntropy(37 * 128)(*problem(tokens=1000))
        CrossEntropy(37 * 128)(*problem(tokens=1000), "none")
    torch.testing.assert_close(mean, plain(*problem(tokens=1000)).detach())
    assert max(evaluated) <= 128
    assert sum(evaluated) == 2000


@given(tokens=st.integers(0, 70_000), vocabulary=st.integers(1, 200_000), elements=st.integers(1, 2**30))
def test_chunks_are_bounded_and_whole_tiles(tokens: int, vocabulary: int, elements: int) -> None:
    length = chunk_length(tokens, vocabulary, elements)
    assert length >= 1
    assert length * vocabulary <= max(elements, 128 * vocabulary)
    assert length % 128 == 0 or length >= tokens


def test_nothing_to_score_is_zero_and_moves_nothing() -> None:
    hidden, weight, targets = problem(tokens=10)
    result = CrossEntropy()(hidden, weight, torch.full_like(targets, -100))
    result.backward()
    assert float(result.detach()) == 0.0
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, targets = problem()
    frozen = weight.detach()
    CrossEntropy()(hidden, frozen, targets).backward()
    expected = torch.autograd.grad(plain(hidden, frozen, targets), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert frozen.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_gradient_is_summed_in_float32(dtype: torch.dtype) -> None:
    wide_hidden, wide_weight, targets = problem(tokens=2000, width=64)
    hidden, weight = (t.detach().float().mul(0.3).requires_grad_() for t in (wide_hidden, wide_weight))
    expected = plain(hidden, weight, targets)
    wanted = torch.autograd.grad(expected, weight)[0]
    with torch.autocast("cpu", dtype):
        result = CrossEntropy(37 * 128)(hidden, weight, targets)
    result.backward()
    assert result.dtype == torch.float32
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert float(result.detach()) == pytest.approx(float(expected.detach()), rel=5e-3)
    assert float((weight.grad - wanted).norm() / wanted.norm()) < 0.02


def test_a_large_logit_does_not_overflow() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    losses, gradient = losses_and_gradient(logits.detach(), torch.tensor([1]))
    assert float(losses) == pytest.approx(2e4)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0, 0.0]]))


def test_a_second_backward_is_refused() -> None:
    hidden, weight, targets = problem()
    result = CrossEntropy()(hidden, weight, targets)
    result.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward runs once"):
        result.backward()

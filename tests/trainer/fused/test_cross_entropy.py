"""Head, softmax and loss in one kernel, against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jobctl.trainer.fused import cross_entropy
from jobctl.trainer.fused.cross_entropy import HeadCrossEntropy
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.models import loss
from tests.trainer.fused.reference import DEVICE, TYPES, agree, error, random


def logits_and_targets(rows: int = 10, size: int = 300) -> tuple[Tensor, Tensor]:
    return 3 * random(rows, size), torch.randint(0, size, (rows,), device=DEVICE)


def test_softmax_gives_losses_and_their_gradient_and_leaves_ignored_targets_out() -> None:
    logits, targets = logits_and_targets()
    targets[3] = -100
    scale = torch.tensor(0.25, device=DEVICE)
    expected = logits.double()
    expected_losses = cross_entropy.plain_softmax_(expected, targets, scale.double())
    losses = cross_entropy.softmax_(logits, targets, scale, block=64)
    assert error(losses, expected_losses) < 1e-6
    assert error(logits, expected) < 1e-5
    assert not logits[3].any()


def test_logits_far_apart_neither_overflow_nor_lose_the_largest() -> None:
    """The largest one comes in the last piece, so that every sum before it is scaled down."""
    logits = torch.zeros(2, 300, device=DEVICE)
    logits[:, :256] = -3e4
    logits[:, 299] = 3e4
    targets = torch.tensor([299, 0], device=DEVICE)
    losses = cross_entropy.softmax_(logits, targets, torch.tensor(1.0, device=DEVICE), block=64)
    assert losses.tolist() == [0.0, 6e4]
    assert not logits[0].any()
    assert logits[1, [0, 299]].tolist() == [-1.0, 1.0]


def test_losses_and_gradients_have_the_same_bits_again() -> None:
    logits, targets = logits_and_targets(17, 129)
    again = logits.clone()
    scale = torch.tensor(0.1, device=DEVICE)
    first = cross_entropy.softmax_(logits, targets, scale, block=32)
    second = cross_entropy.softmax_(again, targets, scale, block=32)
    assert torch.equal(first, second)
    assert torch.equal(logits, again)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_chunked_loss_through_the_softmax_kernel_is_the_plain_one(dtype: torch.dtype) -> None:
    hidden = random(300, 32, dtype=dtype)
    # Divided, so that the logits are about 1.
    weight = (random(200, 32) / 32**0.5).to(dtype)
    targets = torch.randint(0, 200, (300,), device=DEVICE)
    targets[7] = loss.IGNORED
    chunked = loss.CrossEntropy(200 * 128, cross_entropy.losses_and_gradient)

    def plain(h: Tensor, w: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(h @ w.t(), targets, ignore_index=loss.IGNORED)

    agree(lambda h, w: chunked(h, w, targets), plain, [hidden, weight], [torch.tensor(0.5, device=DEVICE)])


def head(rows: int = 50, columns: int = 16) -> Projection:
    weight = nn.Parameter(random(rows, columns) / columns**0.5)
    projection = Projection([weight], torch.float32)
    projection.working.copy_(weight.detach())
    return projection


KEPT = [pytest.param(2**30, id="logits kept"), pytest.param(1, id="chunk by chunk")]


@pytest.mark.parametrize("kept_bytes", KEPT)
def test_loss_and_gradients_of_two_micro_steps_are_the_plain_ones(kept_bytes: int) -> None:
    projection = head()
    (weight,) = projection.weights
    fused = HeadCrossEntropy(projection, kept_bytes)
    plain = weight.detach().double().requires_grad_()
    for _ in range(2):
        hidden = random(2, 150, 16).requires_grad_()
        targets = torch.randint(0, 50, (2, 150), device=DEVICE)
        targets[1, 5:] = loss.IGNORED
        theirs = hidden.detach().double().requires_grad_()
        got = fused(hidden, weight, targets)
        expected = torch.nn.functional.cross_entropy(
            (theirs @ plain.t()).flatten(0, 1), targets.flatten(), ignore_index=loss.IGNORED
        )
        # A factor, because backward begins with the loss divided by the micro-steps.
        (got * 0.5).backward()
        (expected * 0.5).backward()
        assert hidden.grad is not None
        assert theirs.grad is not None
        assert error(got, expected) < 1e-6
        assert error(hidden.grad, theirs.grad) < 1e-5

    assert weight.grad is not None
    assert plain.grad is not None
    assert error(weight.grad, plain.grad) < 1e-5


@pytest.mark.parametrize("kept_bytes", KEPT)
def test_a_batch_without_a_target_has_neither_loss_nor_gradient(kept_bytes: int) -> None:
    projection = head()
    hidden = random(1, 140, 16).requires_grad_()
    targets = torch.full((1, 140), loss.IGNORED, device=DEVICE)
    total = HeadCrossEntropy(projection, kept_bytes)(hidden, projection.weights[0], targets)
    total.backward()
    assert total.item() == 0.0
    assert hidden.grad is not None
    assert not hidden.grad.any()
    assert not projection.weights[0].grad.any()  # type: ignore[union-attr]


def test_an_evaluation_gets_the_loss_of_each_target_and_leaves_no_gradient() -> None:
    projection = head()
    (weight,) = projection.weights
    hidden = random(2, 9, 16)
    targets = torch.randint(0, 50, (2, 9), device=DEVICE)
    expected = torch.nn.functional.cross_entropy(
        (hidden @ projection.working.t()).flatten(0, 1), targets.flatten(), reduction="none"
    )
    with torch.no_grad():
        got = HeadCrossEntropy(projection)(hidden, weight, targets, "none")
    assert error(got, expected.view(2, 9)) < 1e-6
    assert weight.grad is None

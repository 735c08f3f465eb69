"""Products with a working copy, and the float32 sum of the weights' gradients."""

from __future__ import annotations

import torch
from torch import nn

from jobctl.trainer.fused import linear
from jobctl.trainer.fused.linear import Projection
from tests.trainer.fused.reference import agree, error, random

ROWS = (16, 8, 8)


def joined(uses: int = 1) -> Projection:
    weights = [nn.Parameter(random(rows, 24)) for rows in ROWS]
    projection = Projection(weights, torch.float32, uses)
    projection.working.copy_(torch.cat([weight.detach() for weight in weights]))
    return projection


def test_a_product_taken_apart_gives_the_gradients_of_the_whole_one() -> None:
    projection = joined()
    x = random(2, 5, 24)
    up = [random(2, 5, rows) for rows in ROWS]
    agree(
        lambda a: linear.project_apart(a, projection),
        lambda a: (a @ projection.working.double().t()).split(ROWS, dim=-1),
        [x],
        up,
    )
    for weight, upstream in zip(projection.weights, up, strict=True):
        assert weight.grad is not None
        assert error(weight.grad, torch.einsum("btr,btc->rc", upstream.double(), x.double())) < 1e-5


def test_micro_steps_add_up_in_one_float32_matrix_that_the_weights_share() -> None:
    projection = joined()
    total = torch.zeros(sum(ROWS), 24, dtype=torch.float64, device=projection.working.device)
    for _ in range(3):
        x = random(2, 5, 24)
        up = random(2, 5, sum(ROWS))
        linear.project(x, projection).backward(up)
        total += torch.einsum("btr,btc->rc", up.double(), x.double())

    whole, fresh = projection.gradient()
    assert not fresh
    assert whole.dtype == torch.float32
    assert error(whole, total) < 1e-5
    for weight, part in zip(projection.weights, whole.split(ROWS), strict=True):
        assert weight.grad is not None
        assert weight.grad.data_ptr() == part.data_ptr()


def test_after_the_gradients_are_cleared_the_next_one_overwrites_the_old_sum() -> None:
    projection = joined()
    linear.project(random(4, 24), projection).backward(random(4, sum(ROWS)))
    for weight in projection.weights:
        weight.grad = None

    x = random(4, 24)
    up = random(4, sum(ROWS))
    linear.project(x, projection).backward(up)
    assert error(projection.gradient()[0], up.double().t() @ x.double()) < 1e-5


def test_a_gradient_that_somebody_else_made_is_added_to() -> None:
    projection = joined()
    theirs = random(ROWS[1], 24)
    projection.weights[1].grad = theirs.clone()
    x = random(4, 24)
    up = random(4, sum(ROWS))
    linear.project(x, projection).backward(up)

    product = (up.double().t() @ x.double()).split(ROWS)
    for index, weight in enumerate(projection.weights):
        expected = product[index] + (theirs.double() if index == 1 else 0)
        assert weight.grad is not None
        assert error(weight.grad, expected) < 1e-5


def test_an_input_without_gradient_gets_none() -> None:
    """The first product of a model has tokens before it, and would multiply for nothing."""
    projection = joined()
    out = linear.project(random(4, 24), projection)
    assert out.requires_grad
    out.sum().backward()
    assert all(weight.grad is not None for weight in projection.weights)


def test_a_gradient_is_complete_after_the_last_use_of_a_backward_pass() -> None:
    """A tied embedding is used twice, and must not be reduced after the head's part alone."""
    projection = joined(uses=2)
    complete: list[Projection] = []
    projection.on_complete = complete.append
    for passes in range(2):
        projection.added()
        assert len(complete) == passes
        projection.added()
        assert len(complete) == passes + 1


def test_a_projection_moves_to_memory_that_others_use_and_keeps_its_rows_apart() -> None:
    projection = joined()
    shared = torch.empty_like(projection.working)
    apart = [torch.empty(rows * 24, device=shared.device) for rows in ROWS]
    projection.move_to(shared, apart)
    for rows, weight in zip(projection.own, projection.weights, strict=True):
        rows.copy_(weight.detach())

    assert projection.working.data_ptr() == shared.data_ptr()
    assert [copy.shape[0] for copy in projection.copies] == [*ROWS]
    assert torch.equal(torch.cat(apart).view(-1, 24), torch.cat([w.detach() for w in projection.weights]))

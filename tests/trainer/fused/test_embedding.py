"""The embedding's look-up, and its gradient that is added row by row."""

from __future__ import annotations

import torch
from torch import nn

from jobctl.trainer.fused import embedding
from jobctl.trainer.fused.linear import Projection
from tests.trainer.fused.reference import DEVICE, error, random


def looked_up(rows: int = 11, size: int = 24) -> Projection:
    weight = nn.Parameter(random(rows, size))
    projection = Projection([weight], torch.float32)
    projection.working.copy_(weight.detach())
    return projection


def test_rows_are_added_to_the_embedding_gradient_however_often_a_token_occurs() -> None:
    table = random(11, 40)
    rows = random(60, 40)
    tokens = torch.randint(0, 11, (60,), device=DEVICE)
    tokens[:40] = 3
    expected = table.double()
    embedding.plain_add_rows(expected, tokens, rows)
    embedding.add_rows(table, tokens, rows)
    assert error(table, expected) < 1e-6


def test_rows_wider_than_a_program_are_added_whole() -> None:
    size = embedding.BLOCK + 3
    table = torch.zeros(3, size, device=DEVICE)
    rows = random(5, size)
    tokens = torch.tensor([2, 0, 2, 2, 0], device=DEVICE)
    embedding.add_rows(table, tokens, rows)
    assert error(table[2], rows[[0, 2, 3]].double().sum(0)) < 1e-6
    assert error(table[0], rows[[1, 4]].double().sum(0)) < 1e-6
    assert not table[1].any()


def test_the_last_token_fills_a_group_of_rows_to_the_end() -> None:
    """The program then asks for more rows beyond the last one, and gets none."""
    rows = random(2 * embedding.ROWS, 8)
    table = torch.zeros(2, 8, device=DEVICE)
    tokens = torch.ones(len(rows), dtype=torch.int64, device=DEVICE)
    embedding.add_rows(table, tokens, rows)
    assert error(table[1], rows.double().sum(0)) < 1e-6


def test_rows_of_a_token_are_added_in_the_order_of_the_text() -> None:
    """So the sum has the same bits whatever other tokens the text has."""
    rows = random(40, 16)
    alone = torch.zeros(3, 16, device=DEVICE)
    embedding.add_rows(alone, torch.ones(40, dtype=torch.int64, device=DEVICE), rows)

    mixed = torch.zeros(3, 16, device=DEVICE)
    others = random(80, 16)
    others[::2] = rows
    tokens = torch.zeros(80, dtype=torch.int64, device=DEVICE)
    tokens[::2] = 1
    embedding.add_rows(mixed, tokens, others)
    assert torch.equal(mixed[1], alone[1])


def test_the_first_micro_step_begins_with_zeros_and_the_next_one_adds() -> None:
    projection = looked_up()
    (weight,) = projection.weights
    tokens = torch.tensor([[1, 4, 1]], device=DEVICE)
    up = random(1, 3, 24)
    out = embedding.look_up(tokens, projection)
    assert torch.equal(out, projection.working[tokens])

    out.backward(up)
    expected = torch.zeros(11, 24, device=DEVICE)
    embedding.plain_add_rows(expected, tokens[0], up[0])
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected)

    embedding.look_up(tokens, projection).backward(up)
    torch.testing.assert_close(weight.grad, 2 * expected)

    weight.grad = None
    embedding.look_up(tokens, projection).backward(up)
    torch.testing.assert_close(weight.grad, expected)

"""Embedding look-up in a working copy. The gradient is added row by row in float32, and repeats bit for bit.

torch's own backward makes a gradient of the whole vocabulary in each micro-step, and then adds all of it.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from jobctl.trainer.fused.linear import Projection

ROWS = 16
BLOCK = 1024
WARPS = 4
"""Rows and columns that a program adds at once.

These were the fastest on an H200 for 65,536 tokens of text.
"""


@triton.jit
def add_rows_kernel(
    tokens_ptr, order_ptr, rows_ptr, table_ptr, count, size, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    start = tl.program_id(0)
    token = tl.load(tokens_ptr + start)
    # No token is -1, so the program at the first place always adds.
    before = tl.load(tokens_ptr + start - 1, mask=start > 0, other=-1)
    # Tokens are sorted. The program at the first place of a token adds all of its rows, and the others do
    # nothing. So no two programs write to one row, and the order of the sum is fixed.
    if token != before:
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < size
        total = tl.zeros([BLOCK], dtype=tl.float32)
        more = True

        while more:
            at = start + tl.arange(0, ROWS)
            same = tl.load(tokens_ptr + at, mask=at < count, other=-1) == token
            row = tl.load(order_ptr + at, mask=same, other=0)
            mask = same[:, None] & inside[None, :]
            values = tl.load(rows_ptr + row[:, None] * size + columns[None, :], mask=mask, other=0.0)
            total += tl.sum(values.to(tl.float32), 0)
            more = tl.sum(same.to(tl.int32), 0) == ROWS
            start += ROWS

        target = table_ptr + token * size + columns
        tl.store(target, tl.load(target, mask=inside, other=0.0) + total, mask=inside)


def plain_add_rows(table: Tensor, tokens: Tensor, rows: Tensor) -> None:
    """Do the same in plain PyTorch, as the reference."""
    table.index_add_(0, tokens, rows.to(table.dtype))


def add_rows(table: Tensor, tokens: Tensor, rows: Tensor) -> None:
    """Add rows[i] to table[tokens[i]], in float32 and in a fixed order.

    tokens are int64 ``[N]``, rows ``[N, size]``.
    """
    # Stable, so that the rows of a token are added in the order of the text in every run.
    in_order, order = torch.sort(tokens, stable=True)
    count, size = rows.shape
    add_rows_kernel[(count, triton.cdiv(size, BLOCK))](
        in_order, order, rows, table, count, size, ROWS=ROWS, BLOCK=BLOCK, num_warps=WARPS
    )


class LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, projection: Projection, weight: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.projection = projection
        return projection.working[tokens]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, None]:
        (tokens,) = ctx.saved_tensors
        projection: Projection = ctx.projection
        rows = upstream.reshape(-1, upstream.shape[-1])
        table, fresh = projection.gradient()
        # The kernel adds only to the rows of tokens that occur. All the others must be zero.
        if fresh:
            table.zero_()

        add_rows(table, tokens.reshape(-1), rows)
        projection.added()

        return None, None, None


def look_up(tokens: Tensor, projection: Projection) -> Tensor:
    """Map tokens ``[B, T]`` to ``[B, T, size]`` in the working dtype."""
    out: Tensor = LookUp.apply(tokens, projection, projection.weights[0])  # type: ignore[no-untyped-call]
    return out

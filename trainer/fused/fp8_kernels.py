"""The kernels that round to float8, in Triton.

One pass makes a matrix, its transpose and its largest value.
"""

from __future__ import annotations

import triton
import triton.language as tl

from jobctl.trainer.fused.activation import gelu, gelu_gradient_of, swiglu_gradients

TILE = 64
WARPS = 8
"""Rows and columns of one program's tile, and its warps."""


@triton.jit
def store_twice(value, inside, row, column, out_ptr, transposed_ptr, amax_ptr, scale, largest, rows, columns):
    """Round a tile, store it as it is and transposed, and note its largest absolute value."""
    # A maximum is the same in any order, so this atomic operation repeats bit for bit.
    tl.atomic_max(amax_ptr, tl.max(tl.max(tl.abs(tl.where(inside, value, 0.0)), 1), 0), sem="relaxed")
    # Cut off here. As an infinity or a NaN, one value would spoil a whole row of a product.
    value = tl.minimum(tl.maximum(value * scale, -largest), largest)
    narrow = value.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row.to(tl.int64) * columns + column, narrow, mask=inside)
    target = transposed_ptr + tl.trans(column).to(tl.int64) * rows + tl.trans(row)
    # Transposed in bfloat16: in float32 or float8, Triton 3.6 leaves parts of the tile unwritten.
    turned = tl.trans(value.to(tl.bfloat16)).to(tl.float32).to(out_ptr.dtype.element_ty)
    tl.store(target, turned, mask=tl.trans(inside))


@triton.jit
def round_kernel(
    x_ptr,
    out_ptr,
    transposed_ptr,
    amax_ptr,
    scale_ptr,
    largest,
    rows,
    columns,
    MODE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Round x (MODE 0), SwiGLU of x with twice the columns (MODE 1), or GELU of x (MODE 2)."""
    row = (tl.program_id(0) * TILE + tl.arange(0, TILE))[:, None]
    column = (tl.program_id(1) * TILE + tl.arange(0, TILE))[None, :]
    inside = (row < rows) & (column < columns)
    if MODE == 1:
        at = x_ptr + row.to(tl.int64) * (2 * columns) + column
        gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        value = gate * tl.sigmoid(gate) * tl.load(at + columns, mask=inside, other=0.0).to(tl.float32)
    else:
        value = tl.load(x_ptr + row.to(tl.int64) * columns + column, mask=inside, other=0.0).to(tl.float32)
        if MODE == 2:
            value = gelu(value)

    scale = tl.load(scale_ptr)
    store_twice(value, inside, row, column, out_ptr, transposed_ptr, amax_ptr, scale, largest, rows, columns)


@triton.jit
def round_gradient_kernel(
    x_ptr,
    dout_ptr,
    out_ptr,
    transposed_ptr,
    amax_ptr,
    scale_ptr,
    largest,
    rows,
    columns,
    GATED: tl.constexpr,
    TILE: tl.constexpr,
):
    """Round the gradient by the input of SwiGLU (two tiles, ``columns`` apart) or GELU."""
    row = (tl.program_id(0) * TILE + tl.arange(0, TILE))[:, None]
    column = (tl.program_id(1) * TILE + tl.arange(0, TILE))[None, :]
    inside = (row < rows) & (column < columns)
    scale = tl.load(scale_ptr)
    dout = tl.load(dout_ptr + row.to(tl.int64) * columns + column, mask=inside, other=0.0).to(tl.float32)
    if GATED:
        at = x_ptr + row.to(tl.int64) * (2 * columns) + column
        gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(at + columns, mask=inside, other=0.0).to(tl.float32)
        dgate, dup = swiglu_gradients(gate, up, dout)
        width = 2 * columns
        store_twice(
            dgate, inside, row, column, out_ptr, transposed_ptr, amax_ptr, scale, largest, rows, width
        )
        # The gradient by ``up`` is the second half of each row.
        column += columns
        store_twice(dup, inside, row, column, out_ptr, transposed_ptr, amax_ptr, scale, largest, rows, width)
    else:
        x = tl.load(x_ptr + row.to(tl.int64) * columns + column, mask=inside, other=0.0).to(tl.float32)
        dx = gelu_gradient_of(x, dout)
        store_twice(dx, inside, row, column, out_ptr, transposed_ptr, amax_ptr, scale, largest, rows, columns)

"""Products of bfloat16 matrices with a float32 result.

They take the fastest way that this torch has on the device.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

PIECES = 4
"""Pieces of the summed dimension, if it is cut."""
TILE = 256 * 128
"""Elements of the result that one multiprocessor computes at a time."""
PIECE = 4096
"""The shortest piece that pays."""


def product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Set out to left @ right, summed and stored in float32."""
    ways = wide_products(out.device)
    if "pieces" in ways and pieces_pay(*out.shape, left.shape[1], out.device):
        torch.sum(in_pieces(left, right), 0, out=out)
    elif "product" in ways:
        torch.ops.aten.mm.dtype_out(left, right, torch.float32, out=out)
    else:
        out.copy_(left @ right)


def add_product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to out, summed and stored in float32."""
    ways = wide_products(out.device)
    if "pieces" in ways and pieces_pay(*out.shape, left.shape[1], out.device):
        out.add_(in_pieces(left, right).sum(0))
    elif "sum" in ways:
        torch.ops.aten.addmm.dtype_out(out, left, right, torch.float32, out=out)
    elif "product" in ways:
        out.add_(torch.ops.aten.mm.dtype(left, right, torch.float32))
    else:
        out.add_(left @ right)


def in_pieces(left: Tensor, right: Tensor) -> Tensor:
    """Return the products of the pieces, ``[PIECES, m, n]`` in float32. Their sum is left @ right."""
    products: Tensor = torch.ops.aten.bmm.dtype(*pieces(left, right), torch.float32)
    return products


def pieces(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Cut left ``[m, k]`` and right ``[k, n]`` along k.

    The pieces are ``[PIECES, m, k / PIECES]`` and ``[PIECES, k / PIECES, n]``.
    """
    return left.unflatten(1, (PIECES, -1)).transpose(0, 1), right.unflatten(0, (PIECES, -1))


@functools.cache
def pieces_pay(rows: int, columns: int, summed: int, device: torch.device) -> bool:
    """Return True if without pieces more than 30% of the multiprocessors' time would be unused.

    An example is GPT-2's 2304 × 2304: 162 tiles for 132 multiprocessors take as long as 264 tiles would.
    """
    if summed % PIECES or summed < PIECES * PIECE:
        return False
    rounds = rows * columns / TILE / torch.cuda.get_device_properties(device).multi_processor_count
    return rounds < 0.7 * math.ceil(rounds)


@functools.cache
def wide_products(device: torch.device) -> frozenset[str]:
    """Return the products with a float32 result that this torch has on this device.

    torch 2.8 brought the first one.
    """
    narrow = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
    out = torch.ones(16, 16, dtype=torch.float32, device=device)
    ways = set()

    try:
        torch.ops.aten.mm.dtype_out(narrow, narrow, torch.float32, out=out)
        ways.add("product")
        torch.ops.aten.addmm.dtype_out(out, narrow, narrow, torch.float32, out=out)
        # 16 from the product before and 16 from this one. Some releases accept the call, but do not add.
        if bool((out == 32).all()):
            ways.add("sum")

        if device.type == "cuda":
            in_pieces(narrow, narrow)
            ways.add("pieces")
    except (AttributeError, RuntimeError, NotImplementedError):
        # An older torch lacks the operator, or the device has no kernel for it.
        pass

    return frozenset(ways)

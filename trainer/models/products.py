"""Products of narrow matrices with a float32 result, by whatever this torch has for them on the device."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

PIECES = 4
"""Pieces into which the summed dimension is cut where that pays."""
TILE = 256 * 128
PIECE = 4096
"""Elements of the result that a multiprocessor computes at once; the shortest piece that pays."""


def product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out = left @ right, summed and stored in float32."""
    ways = wide_products(out.device)
    if "pieces" in ways and pieces_pay(*out.shape, left.shape[1], out.device):
        torch.sum(in_pieces(left, right), 0, out=out)
    elif "product" in ways:
        torch.ops.aten.mm.dtype_out(left, right, torch.float32, out=out)
    else:
        out.copy_(left @ right)


def add_product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out += left @ right, summed and stored in float32."""
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
    """Products of the pieces, ``[PIECES, m, n]`` in float32; left @ right is their sum."""
    products: Tensor = torch.ops.aten.bmm.dtype(*pieces(left, right), torch.float32)
    return products


def pieces(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """left ``[m, k]`` and right ``[k, n]`` along k: ``[PIECES, m, k / PIECES]``, ``[PIECES, k / PIECES, n]``."""
    return left.unflatten(1, (PIECES, -1)).transpose(0, 1), right.unflatten(0, (PIECES, -1))


@functools.cache
def pieces_pay(rows: int, columns: int, summed: int, device: torch.device) -> bool:
    """Whether the product's tiles alone would leave more than 30% of the multiprocessors' time unused.

    As with GPT-2's 2304 × 2304: 162 tiles for 132 multiprocessors, which take as long as 264 would.
    """
    if summed % PIECES or summed < PIECES * PIECE:
        return False
    rounds = rows * columns / TILE / torch.cuda.get_device_properties(device).multi_processor_count
    return rounds < 0.7 * math.ceil(rounds)


@functools.cache
def wide_products(device: torch.device) -> frozenset[str]:
    """Which products of narrow matrices with a float32 result this torch has on this device (2.8 brought the first)."""
    narrow = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
    out = torch.ones(16, 16, dtype=torch.float32, device=device)
    found = set()

    try:
        torch.ops.aten.mm.dtype_out(narrow, narrow, torch.float32, out=out)
        found.add("product")
        torch.ops.aten.addmm.dtype_out(out, narrow, narrow, torch.float32, out=out)
        if bool((out == 32).all()):
            found.add("sum")

        if device.type == "cuda":
            in_pieces(narrow, narrow)
            found.add("pieces")
    except (AttributeError, RuntimeError, NotImplementedError):
        pass

    return frozenset(found)

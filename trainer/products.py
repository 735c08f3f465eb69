"""Products of narrow matrices with a float32 result, by whatever this torch has for them on the device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out = left @ right, summed and stored in float32."""
    if "product" in wide_products(out.device):
        torch.ops.aten.mm.dtype_out(left, right, torch.float32, out=out)
    else:
        out.copy_(left @ right)


def add_product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out += left @ right, summed and stored in float32."""
    ways = wide_products(out.device)
    if "sum" in ways:
        torch.ops.aten.addmm.dtype_out(out, left, right, torch.float32, out=out)
    elif "product" in ways:
        out.add_(torch.ops.aten.mm.dtype(left, right, torch.float32))
    else:
        out.add_(left @ right)


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
    except (AttributeError, RuntimeError, NotImplementedError):
        pass
    return frozenset(found)

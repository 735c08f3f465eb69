"""Compare a fused kernel with its plain reference in float64.

On a GPU in bfloat16 and float32; without one Triton's interpreter runs them, in float32 (tests/conftest.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if HAS_GPU else torch.device("cpu")
TYPES = [torch.float32, torch.bfloat16] if HAS_GPU else [torch.float32]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-3}


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


def error(got: Tensor, expected: Tensor) -> float:
    """Return the length of the difference, as a part of the length of what is expected."""
    got = got.detach().double()
    expected = expected.detach().double()
    return float((got - expected).norm() / expected.norm())


def results(
    function: Callable[..., Any], inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> list[Tensor]:
    """Return the outputs, and the gradients of the inputs."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    out = function(*leaves)
    outs = list(out) if isinstance(out, tuple) else [out]
    torch.autograd.backward(outs, list(upstream))
    return [o.detach() for o in outs] + [leaf.grad for leaf in leaves if leaf.grad is not None]


def agree(
    fast: Callable[..., Any], plain: Callable[..., Any], inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> None:
    got = results(fast, inputs, upstream)
    expected = results(plain, [i.double() for i in inputs], [u.double() for u in upstream])
    tolerance = TOLERANCE[inputs[0].dtype]
    assert len(got) == len(expected)
    assert max(map(error, got, expected)) < tolerance


def same_bits_again(
    function: Callable[..., Any], inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> None:
    first = results(function, inputs, upstream)
    second = results(function, inputs, upstream)
    assert all(map(torch.equal, first, second))

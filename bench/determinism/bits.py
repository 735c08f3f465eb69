"""Tensors as bits: what differs, and a digest to compare between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
PIECE = 1 << 26
"""Elements that are widened at once."""

Outputs = Mapping[str, Tensor]


def bits(tensor: Tensor) -> Tensor:
    """The tensor's memory as integers of the same size, flat; NaN equals itself and -0 does not equal 0."""
    return tensor.detach().contiguous().view(INTEGERS[tensor.element_size()]).reshape(-1)


def differing(one: Outputs, other: Outputs) -> dict[str, int]:
    """By name: how many elements differ, where any does."""
    counts = {name: (bits(one[name]) != bits(other[name])).sum() for name in one}
    return {name: int(count) for name, count in counts.items() if int(count)}


def digest(tensors: Iterable[Tensor]) -> str:
    """A digest of the tensors' bits. Sums of integers wrap around and have no order, so it repeats itself."""
    sums = []
    for tensor in tensors:
        for piece in torch.split(bits(tensor), PIECE):
            places = torch.arange(piece.numel(), device=piece.device).mul_(2).add_(1)
            sums.append((piece.long() * places).sum())
    return hashlib.sha256(str([int(total) for total in sums]).encode()).hexdigest()[:16]


class Disturbance:
    """A GPU as it is in other runs: memory full of NaN that comes in other places, and work on another stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(0)
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.square = torch.randn(2048, 2048, device=device)
        self.kept: list[Tensor] = []

    def __call__(self) -> None:
        sizes = torch.randint(1, 1 << 27, (6,), generator=self.generator).tolist()
        blocks = [torch.empty(size, dtype=torch.uint8, device=self.device).fill_(0xFF) for size in sizes]
        self.kept = blocks[::2]
        del blocks
        with torch.cuda.stream(self.stream):
            for _ in range(8):
                torch.mm(self.square, self.square)


def repeat(run: Callable[[], Outputs], times: int, disturb: Callable[[], None]) -> dict[str, int]:
    """By output: how many elements differed from the first time in the worst of the others."""
    first = {name: tensor.detach().clone() for name, tensor in run().items()}
    worst: dict[str, int] = {}
    for _ in range(times - 1):
        disturb()
        for name, count in differing(first, run()).items():
            worst[name] = max(count, worst.get(name, 0))
    return worst

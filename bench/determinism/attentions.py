"""Ways to compute attention, among them candidates for one that repeats."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from jobctl.trainer.models.attention import Attention, ManualAttention, SdpaAttention, SdpaKernel
from jobctl.trainer.models.cudnn_attention import RepeatableCudnn
from jobctl.trainer.training.repeatable import tell_torch


class FlashBackward(torch.autograd.Function):
    """cuDNN's forward pass, FlashAttention-2's backward pass, on ``[B, H, T, D]``."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, stats, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, True)
        ctx.save_for_backward(q, k, v, out, stats)
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, stats = ctx.saved_tensors
        seed = torch.zeros((), dtype=torch.int64)
        stats = stats.reshape(q.shape[:3])
        lengths = (None, None, q.shape[2], k.shape[2])
        dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            dout, q, k, v, out, stats, *lengths, 0.0, True, seed, seed
        )
        return dq, dk, dv


class CudnnThenFlash(Attention):
    name = "cudnn forward, flash backward"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        out: Tensor = FlashBackward.apply(*(t.transpose(1, 2) for t in (q, k, v)))  # type: ignore[no-untyped-call]
        return out.transpose(1, 2)


class ContiguousValues(Attention):
    """Values out of the product of q, k and v, copied first."""

    name = "cudnn, values copied"

    def __init__(self, inner: Attention) -> None:
        self.inner = inner

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        return self.inner(q, k, v.contiguous(), document_ids)


class HeadsFirst(Attention):
    """All three copied so that a head's rows lie together."""

    name = "cudnn, heads first"

    def __init__(self, inner: Attention) -> None:
        self.inner = inner

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        copies = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
        return self.inner(copies[0], copies[1], copies[2], document_ids)


def of_torch(label: str, backend: SDPBackend) -> Attention:
    kernel = SdpaKernel(label, backend)
    return SdpaAttention(kernel, kernel)


@dataclass(frozen=True)
class Way:
    """How to make an attention, and whether torch is told to be deterministic while it runs."""

    make: Callable[[], Attention]
    deterministic: bool = False


def cudnn() -> Attention:
    return of_torch("cudnn", SDPBackend.CUDNN_ATTENTION)


def flash() -> Attention:
    return of_torch("flash", SDPBackend.FLASH_ATTENTION)


WAYS: dict[str, Way] = {
    "cudnn": Way(cudnn),
    "cudnn, values copied": Way(lambda: ContiguousValues(cudnn())),
    "cudnn, heads first": Way(lambda: HeadsFirst(cudnn())),
    "cudnn, repeatable": Way(lambda: SdpaAttention(RepeatableCudnn(), RepeatableCudnn()), deterministic=True),
    "flash": Way(flash),
    "flash, repeatable": Way(flash, deterministic=True),
    "cudnn forward, flash backward, repeatable": Way(CudnnThenFlash, deterministic=True),
    "manual": Way(ManualAttention),
}
FUSED_WAYS = [way for way in WAYS if way != "manual"]
"""Those that do not hold all scores at once, and so have room for large batches."""


@contextlib.contextmanager
def told(way: str) -> Iterator[None]:
    """Tell torch to be deterministic if the way wants it."""
    tell_torch(WAYS[way].deterministic)
    try:
        yield
    finally:
        tell_torch(deterministic=False)


class Exchangeable(Attention):
    """An attention whose implementation can be exchanged while a model holds it."""

    def __init__(self) -> None:
        self.made: dict[str, Attention] = {}
        self.exchange("cudnn")

    def exchange(self, way: str) -> None:
        """From now on compute ``way``: each time the same object, for which a compiled block stays compiled."""
        if way not in self.made:
            self.made[way] = WAYS[way].make()
        self.name = way
        self.inner = self.made[way]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        return self.inner(q, k, v, document_ids)

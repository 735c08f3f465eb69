"""Normalisations over the last dimension, computed in float32."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Norm(nn.Module):
    """A normalisation with one gain for each column, float32 ``[size]``."""

    initial_gain: ClassVar[float] = 1.0
    """The gain that does not change the normalised value. A model begins with it."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((size,), self.initial_gain, dtype=torch.float32))

    def reset_gain(self) -> None:
        """Fill the gain with its initial value."""
        nn.init.constant_(self.weight, self.initial_gain)


class RMSNorm(Norm):
    """Return x / rms(x) · weight in x's dtype (Zhang and Sennrich 2019).

    ``F.rms_norm`` is not used: its fused kernel does not run when x and the weight differ in dtype, as they
    do under autocast. When compiled, the formula below is one kernel anyway.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight).to(x.dtype)


class LayerNorm(Norm):
    """Layer normalisation (Ba et al. 2016) with a gain and, with ``bias``, a float32 bias ``[size]``."""

    def __init__(self, size: int, eps: float, bias: bool = False) -> None:
        super().__init__(size, eps)
        self.bias = nn.Parameter(torch.zeros(size, dtype=torch.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps).to(x.dtype)

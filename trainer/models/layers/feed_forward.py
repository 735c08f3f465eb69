"""Feed-forward layers, with and without a gate."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig


class FeedForward(nn.Module):
    """A feed-forward layer. Every kind has at least these two matrices."""

    up_proj: nn.Linear
    down_proj: nn.Linear


class GeluFeedForward(FeedForward):
    """Return down(gelu(up(x))), GELU in its tanh form (GPT-2; Hendrycks and Gimpel 2016)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))
        return out


class GatedFeedForward(FeedForward):
    """A feed-forward layer with a third matrix, the gate (Shazeer 2020, section 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)


class SwiGluFeedForward(GatedFeedForward):
    """Return down(silu(gate(x)) · up(x)) (Shazeer 2020, equation 6)."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out

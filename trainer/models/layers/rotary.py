"""Rotary position embedding, and the ways to scale its frequencies for longer text."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig

Scaling = Callable[[Tensor], Tensor]
"""A function of the frequencies ``[D/2]`` in radians a position. It returns slower ones."""


def scaling_of(config: ModelConfig) -> Scaling | None:
    """Return the scaling of ``rope_type``, or None for no scaling."""
    if config.rope_type == "linear":
        return lambda frequencies: frequencies / config.rope_factor

    if config.rope_type == "llama3":
        return lambda frequencies: llama3_frequencies(frequencies, config)

    return None


def llama3_frequencies(frequencies: Tensor, config: ModelConfig) -> Tensor:
    """Divide the low frequencies by the factor, keep the high ones, and interpolate in between.

    This is the rule of LLaMA 3.1 (Grattafiori et al. 2024, section 3.4.2, and its published code). The order
    of the operations is that of ``transformers``, so that the tables are the same bit for bit.
    """
    length = config.rope_original_positions
    low = config.rope_low_freq_factor
    high = config.rope_high_freq_factor
    wavelengths = 2 * math.pi / frequencies
    scaled = torch.where(wavelengths > length / low, frequencies / config.rope_factor, frequencies)

    share = (length / wavelengths - low) / (high - low)
    between = (1 - share) * scaled / config.rope_factor + share * scaled
    is_between = ~(wavelengths < length / high) & ~(wavelengths > length / low)

    return torch.where(is_between, between, scaled)


class RotaryEmbedding(nn.Module):
    """Turn each pair (i, i + D/2) of a head by position · theta^(-2i/D).

    RoFormer, Su et al. 2021, section 3.2.2. The pairing and the rounding are those of ``transformers``,
    because an error of the angle would grow with the position.

    The tables ``[max_positions, D/2]`` are float32 buffers outside the state dict. One instance serves all
    blocks. It is a module and not an input of the blocks, because FSDP's mixed precision casts a block's
    inputs.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, head_dim: int, max_positions: int, theta: float, scaling: Scaling | None = None
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.head_dim = head_dim
        self.max_positions = max_positions
        self.theta = theta

        for name in ("cos", "sin"):
            self.register_buffer(name, torch.empty(max_positions, head_dim // 2), persistent=False)

        self.fill_tables()

    @torch.no_grad()
    def fill_tables(self) -> None:
        """Compute the tables on their device. Call it again after ``to_empty`` of a meta device."""
        device = self.cos.device
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device) / self.head_dim
        positions = torch.arange(self.max_positions, dtype=torch.float32, device=device)
        frequencies = 1.0 / self.theta**exponents
        if self.scaling is not None:
            frequencies = self.scaling(frequencies)

        angles = torch.outer(positions, frequencies)

        self.cos.copy_(angles.cos())
        self.sin.copy_(angles.sin())

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate x ``[B, T, H, D]`` at positions start to start + T - 1."""
        length = x.shape[1]
        cos = self.cos[start : start + length, None]
        sin = self.sin[start : start + length, None]

        first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

        return turned.to(x.dtype)

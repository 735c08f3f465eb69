"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryEmbedding(nn.Module):
    """Turn each pair (i, i + D/2) of a head by position · theta^(-2i/D).

    RoFormer, Su et al. 2021, section 3.2.2. The pairing and the rounding are those of
    ``transformers``: an error of the angle would grow with the position.

    The tables ``[max_positions, D/2]`` are float32 buffers outside the state dict. One instance
    serves all blocks. It is a module and not an input of the blocks, because FSDP's mixed precision
    casts a block's inputs.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, max_positions: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.max_positions = max_positions
        self.theta = theta

        for name in ("cos", "sin"):
            self.register_buffer(name, torch.empty(max_positions, head_dim // 2), persistent=False)

        self.fill_tables()

    @torch.no_grad()
    def fill_tables(self) -> None:
        """Compute the tables on their device; needed again after a meta device's ``to_empty``."""
        device = self.cos.device
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device) / self.head_dim
        positions = torch.arange(self.max_positions, dtype=torch.float32, device=device)
        angles = torch.outer(positions, 1.0 / self.theta**exponents)

        self.cos.copy_(angles.cos())
        self.sin.copy_(angles.sin())

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate x ``[B, T, H, D]``, which stands at positions start … start + T - 1."""
        length = x.shape[1]
        cos = self.cos[start : start + length, None]
        sin = self.sin[start : start + length, None]

        first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

        return turned.to(x.dtype)

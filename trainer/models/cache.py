"""Keep the keys and values of earlier tokens, to generate one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from jobctl.jobs.catalog.schema import ModelConfig


class LayerCache:
    """One block's keys and values, ``[B, capacity, KV, D]`` each. The first ``length`` are filled."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add ``[B, T, KV, D]`` at the end, and return everything so far. Raises ValueError if it is full."""
        end = self.length + keys.shape[1]
        if end > self.keys.shape[1]:
            raise ValueError(f"the cache holds {self.keys.shape[1]} positions, not {end}")

        self.keys[:, self.length : end] = keys
        self.values[:, self.length : end] = values
        self.length = end

        return self.keys[:, :end], self.values[:, :end]


class KeyValueCache:
    """The caches of all blocks."""

    def __init__(
        self, config: ModelConfig, batch: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (batch, capacity, config.num_key_value_heads, config.head_dim)
        self.layers = [
            LayerCache(
                torch.empty(shape, device=device, dtype=dtype), torch.empty(shape, device=device, dtype=dtype)
            )
            for _ in range(config.num_hidden_layers)
        ]

    @property
    def length(self) -> int:
        """Positions seen so far."""
        return self.layers[0].length

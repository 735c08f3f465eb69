"""The attention layer: projections, norms and positions of queries and keys, and the kernel."""

from __future__ import annotations

from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.cache import LayerCache
from jobctl.trainer.models.layers.norm import RMSNorm
from jobctl.trainer.models.layers.rotary import RotaryEmbedding


class SelfAttention(nn.Module):
    """Grouped-query self-attention, with ``rotary`` positions (None: without) and optional q/k-norm.

    q/k-norm is an RMSNorm over the D values of each head, before the rotation. The heads share its gain
    (Qwen3 technical report 2025, section 2).
    """

    def __init__(
        self, config: ModelConfig, attention: Attention, rotary: RotaryEmbedding | None, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim

        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.bias)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if qk_norm else None

        self.rotary = rotary
        self.attention = attention

    def forward(
        self, x: Tensor, document_ids: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """Map x ``[B, T, hidden]`` to the same shape. With a cache, x follows the tokens in it."""
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim))
        k = self.k_proj(x).unflatten(-1, (-1, self.head_dim))
        v = self.v_proj(x).unflatten(-1, (-1, self.head_dim))

        # The norm comes before the rotation, as in Qwen3.
        if self.q_norm is not None and self.k_norm is not None:
            q = self.q_norm(q)
            k = self.k_norm(k)

        if self.rotary is not None:
            start = cache.length if cache is not None else 0
            q = self.rotary(q, start)
            k = self.rotary(k, start)

        # The cache comes after the rotation, so that a key is rotated only once.
        if cache is not None:
            k, v = cache.append(k, v)

        out: Tensor = self.o_proj(self.attention(q, k, v, document_ids).flatten(-2))

        return out

"""LLaMA 2 and 3: RMSNorm, rotary positions, SwiGLU.

Version 3 differs only in its configuration: fewer key heads, a larger vocabulary, another RoPE base and,
since 3.1, scaled frequencies.
"""

from __future__ import annotations

from typing import ClassVar

from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.layers.decoder import Block, Decoder
from jobctl.trainer.models.layers.feed_forward import SwiGluFeedForward
from jobctl.trainer.models.layers.norm import Norm, RMSNorm
from jobctl.trainer.models.layers.rotary import RotaryEmbedding, scaling_of
from jobctl.trainer.models.layers.self_attention import SelfAttention


class Llama(Decoder):
    """LLaMA (Touvron et al. 2023; Grattafiori et al. 2024)."""

    qk_norm: ClassVar[bool] = False

    def build_rotary(self) -> RotaryEmbedding:
        """Return the rotation that all blocks share."""
        config = self.config
        return RotaryEmbedding(
            config.head_dim, config.max_position_embeddings, config.rope_theta, scaling_of(config)
        )

    def build_norm(self) -> Norm:
        """Return an RMSNorm."""
        return RMSNorm(self.config.hidden_size, self.config.norm_eps)

    def build_block(self, attention: Attention) -> Block:
        """Return a block with rotary positions and SwiGLU."""
        self_attn = SelfAttention(self.config, attention, self.rotary, self.qk_norm)
        return Block(self.build_norm(), self_attn, self.build_norm(), SwiGluFeedForward(self.config))

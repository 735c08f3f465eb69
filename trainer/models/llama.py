"""LLaMA 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024): RMSNorm, rotary positions, SwiGLU.

Version 3 differs in its configuration only: fewer key heads, a larger vocabulary and another RoPE base.
"""

from __future__ import annotations

from torch import nn

from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.decoder import Block, Decoder
from jobctl.trainer.models.feed_forward import SwiGluFeedForward
from jobctl.trainer.models.norm import RMSNorm
from jobctl.trainer.models.rotary import RotaryEmbedding
from jobctl.trainer.models.self_attention import SelfAttention


class Llama(Decoder):
    qk_norm = False

    def build_rotary(self) -> RotaryEmbedding:
        config = self.config
        return RotaryEmbedding(config.head_dim, config.max_position_embeddings, config.rope_theta)

    def build_norm(self) -> nn.Module:
        return RMSNorm(self.config.hidden_size, self.config.norm_eps)

    def build_block(self, attention: Attention) -> Block:
        self_attn = SelfAttention(self.config, attention, self.rotary, self.qk_norm)
        return Block(self.build_norm(), self_attn, self.build_norm(), SwiGluFeedForward(self.config))

"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each layer, GELU; here without biases."""

from __future__ import annotations

from torch import nn

from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.decoder import Block, Decoder
from jobctl.trainer.models.feed_forward import GeluFeedForward
from jobctl.trainer.models.norm import LayerNorm
from jobctl.trainer.models.self_attention import SelfAttention


class GPT2(Decoder):
    def build_position_embedding(self) -> nn.Embedding:
        return nn.Embedding(self.config.max_position_embeddings, self.config.hidden_size)

    def build_norm(self) -> nn.Module:
        return LayerNorm(self.config.hidden_size, self.config.norm_eps)

    def build_block(self, attention: Attention) -> Block:
        self_attn = SelfAttention(self.config, attention, rotary=None)
        return Block(self.build_norm(), self_attn, self.build_norm(), GeluFeedForward(self.config))

"""GPT-2: learned positions, LayerNorm before each layer, GELU. ``bias`` switches the biases on."""

from __future__ import annotations

from torch import nn

from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.layers.decoder import Block, Decoder
from jobctl.trainer.models.layers.feed_forward import GeluFeedForward
from jobctl.trainer.models.layers.norm import LayerNorm, Norm
from jobctl.trainer.models.layers.self_attention import SelfAttention


class GPT2(Decoder):
    """GPT-2 (Radford et al. 2019)."""

    def build_position_embedding(self) -> nn.Embedding:
        """Return the table of learned positions ``[max_position_embeddings, hidden]``."""
        return nn.Embedding(self.config.max_position_embeddings, self.config.hidden_size)

    def build_norm(self) -> Norm:
        """Return a LayerNorm."""
        return LayerNorm(self.config.hidden_size, self.config.norm_eps, self.config.bias)

    def build_block(self, attention: Attention) -> Block:
        """Return a block without rotary positions."""
        self_attn = SelfAttention(self.config, attention, rotary=None)
        return Block(self.build_norm(), self_attn, self.build_norm(), GeluFeedForward(self.config))

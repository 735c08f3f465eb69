"""A model after Gemma 2: gains beside one, norms before and after each layer, and a GELU gate."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.cache import LayerCache
from jobctl.trainer.models.layers.decoder import Block
from jobctl.trainer.models.layers.feed_forward import GatedFeedForward
from jobctl.trainer.models.layers.norm import Norm
from jobctl.trainer.models.layers.self_attention import SelfAttention
from jobctl.trainer.models.llama.model import Llama


class OffsetNorm(Norm):
    """Return x / rms(x) · (1 + weight) in x's dtype."""

    initial_gain: ClassVar[float] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * (1 + self.weight)).to(x.dtype)


class GeGluFeedForward(GatedFeedForward):
    """Return down(gelu(gate(x)) · up(x)) (Shazeer 2020, equation 6)."""

    def forward(self, x: Tensor) -> Tensor:
        gate = F.gelu(self.gate_proj(x), approximate="tanh")
        out: Tensor = self.down_proj(gate * self.up_proj(x))
        return out


class GemmaBlock(Block):
    """A block that also normalises what each layer adds to the residual stream."""

    def __init__(self, self_attn: SelfAttention, mlp: GeGluFeedForward, norms: list[Norm]) -> None:
        super().__init__(norms[0], self_attn, norms[1], mlp)
        self.after_attention_norm = norms[2]
        self.after_mlp_norm = norms[3]

    def forward(
        self, x: Tensor, document_ids: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        attended = self.self_attn(self.input_layernorm(x), document_ids, cache)
        x = x + self.after_attention_norm(attended)
        out: Tensor = x + self.after_mlp_norm(self.mlp(self.post_attention_layernorm(x)))
        return out


class Gemma(Llama):
    """LLaMA's attention and positions in other blocks."""

    def build_norm(self) -> Norm:
        return OffsetNorm(self.config.hidden_size, self.config.norm_eps)

    def build_block(self, attention: Attention) -> Block:
        self_attn = SelfAttention(self.config, attention, self.rotary)
        norms = [self.build_norm() for _ in range(4)]
        return GemmaBlock(self_attn, GeGluFeedForward(self.config), norms)

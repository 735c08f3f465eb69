"""What all our architectures share: embedding, pre-norm blocks, final norm, head and loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.cache import KeyValueCache, LayerCache
from jobctl.trainer.models.loss import CrossEntropy, Reduction
from jobctl.trainer.models.rotary import RotaryEmbedding

RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight")
"""The two matrices of a block whose products are added to the residual stream."""


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(
        self, attention_norm: nn.Module, self_attn: nn.Module, feed_forward_norm: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = attention_norm, self_attn
        self.post_attention_layernorm, self.mlp = feed_forward_norm, mlp

    def forward(
        self, x: Tensor, document_ids: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), document_ids, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module, ABC):
    """A causal language model. An architecture says what a block and a norm are, and how positions enter.

    The embedding, the final norm and the head belong to the root module: forward reads the head's weight
    itself (for the chunked loss), so whoever shards the model must leave these three to the root's own
    group. ``cross_entropy`` may be replaced by any other ``(hidden, weight, targets, reduction) -> loss``, and
    ``fused`` be a faster ``(tokens, document_ids) -> hidden`` over the same parameters.
    """

    def __init__(self, config: ModelConfig, attention: Attention) -> None:
        super().__init__()
        self.config = config
        self.cross_entropy: Callable[..., Tensor] = CrossEntropy()
        self.fused: Callable[[Tensor, Tensor | None], Tensor] | None = None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = self.build_position_embedding()
        self.rotary = self.build_rotary()
        self.blocks = nn.ModuleList(self.build_block(attention) for _ in range(config.num_hidden_layers))
        self.norm = self.build_norm()
        tied = config.tie_word_embeddings
        self.lm_head = None if tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def build_position_embedding(self) -> nn.Embedding | None:
        """Learned positions, if the architecture has them."""
        return None

    def build_rotary(self) -> RotaryEmbedding | None:
        """The rotation that ``build_block`` puts into each block, if the architecture has one."""
        return None

    @abstractmethod
    def build_norm(self) -> nn.Module: ...

    @abstractmethod
    def build_block(self, attention: Attention) -> Block: ...

    @property
    def head_weight(self) -> Tensor:
        """``[V, hidden]``; the embedding's where they are tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @torch.no_grad()
    def init_weights(self) -> None:
        """Fills every parameter from torch's current random state, and the position tables.

        Norm gains are one; matrices normal with std ``initializer_range``, those that write to the residual
        stream divided by sqrt(2L) so that its variance does not grow with depth (GPT-2, Radford et al. 2019,
        section 2.3). LLaMA and Qwen3 do not publish theirs; they get the same rule, as in Megatron-LM's
        ``scaled_init_method_normal``.
        """
        std = self.config.initializer_range
        residual_std = std / (2 * self.config.num_hidden_layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=residual_std if name.endswith(RESIDUAL_PROJECTIONS) else std)
        if self.rotary is not None:
            self.rotary.fill_tables()

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        document_ids: Tensor | None = None,
        *,
        reduction: Reduction = "mean",
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """tokens ``[B, T]`` -> logits ``[B, T, V]``; with targets ``[B, T]``, the loss instead.

        ``reduction`` "mean" gives a float32 scalar over targets other than -100, "none" the float32 loss of
        each target ``[B, T]`` (0 where the target is -100), to be summed for a perplexity. With
        ``document_ids`` (integers ``[B, T]``) no token attends to another document. With a ``cache``, tokens
        follow those that it holds and are added to it. Raises UserError for a sequence longer than the model
        has positions for.
        """
        hidden = self.hidden_states(tokens, document_ids, cache)
        if targets is None:
            return F.linear(hidden, self.head_weight)
        return self.cross_entropy(hidden, self.head_weight, targets, reduction)

    def hidden_states(
        self, tokens: Tensor, document_ids: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """The last block's output after the final norm, ``[B, T, hidden]``."""
        start = cache.length if cache is not None else 0
        end = start + tokens.shape[1]
        if end > self.config.max_position_embeddings:
            longest = self.config.max_position_embeddings
            raise UserError(
                f"a sequence of {end} tokens is longer than the model's {longest} positions",
                hint="lower block_size, or raise the model's max_position_embeddings",
            )
        if self.fused is not None and cache is None:
            return self.fused(tokens, document_ids)
        x = self.embed_tokens(tokens)
        if self.embed_positions is not None:
            x = x + self.embed_positions(torch.arange(start, end, device=tokens.device))
        for index, block in enumerate(self.blocks):
            x = block(x, document_ids, cache.layers[index] if cache is not None else None)
        normed: Tensor = self.norm(x)
        return normed

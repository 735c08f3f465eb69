"""The common parts of all families: embedding, pre-norm blocks, final norm, head and loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.cache import KeyValueCache, LayerCache
from jobctl.trainer.models.layers.feed_forward import FeedForward
from jobctl.trainer.models.layers.norm import Norm
from jobctl.trainer.models.layers.rotary import RotaryEmbedding
from jobctl.trainer.models.layers.self_attention import SelfAttention
from jobctl.trainer.models.loss import CrossEntropy, Reduction


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(
        self, attention_norm: Norm, self_attn: SelfAttention, feed_forward_norm: Norm, mlp: FeedForward
    ) -> None:
        super().__init__()
        self.input_layernorm = attention_norm
        self.self_attn = self_attn
        self.post_attention_layernorm = feed_forward_norm
        self.mlp = mlp

    def residual_weights(self) -> tuple[Tensor, ...]:
        """Return the matrices whose products are added to the residual stream."""
        return self.self_attn.o_proj.weight, self.mlp.down_proj.weight

    def forward(
        self, x: Tensor, document_ids: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """Map x ``[B, T, hidden]`` to the same shape."""
        # Pre-norm: the residual stream itself is never normalised, only what the layers read.
        x = x + self.self_attn(self.input_layernorm(x), document_ids, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module, ABC):
    """A causal language model. A family adds its block, its norm and its kind of positions.

    The embedding, the final norm and the head belong to the root module, because ``forward`` itself reads the
    head's weight for the chunked loss. Sharding must leave these three in the root's group.

    ``cross_entropy`` may be replaced by another ``(hidden, weight, targets, reduction) -> loss``, and
    ``fused`` by a faster ``(tokens, document_ids) -> hidden`` over the same parameters.
    """

    def __init__(self, config: ModelConfig, attention: Attention) -> None:
        super().__init__()
        self.config = config
        self.cross_entropy: Callable[..., Tensor] = CrossEntropy()
        self.fused: Callable[[Tensor, Tensor | None], Tensor] | None = None

        # The order of these members is that of the parameters, on which the random weights depend.
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = self.build_position_embedding()
        self.rotary = self.build_rotary()
        self.blocks = nn.ModuleList(self.build_block(attention) for _ in range(config.num_hidden_layers))
        self.norm = self.build_norm()

        tied = config.tie_word_embeddings
        # A tied head is no parameter of its own, so no optimiser or checkpoint sees it twice.
        self.lm_head = None if tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def build_position_embedding(self) -> nn.Embedding | None:
        """Return the table of learned positions, if the family has one."""
        return None

    def build_rotary(self) -> RotaryEmbedding | None:
        """Return the rotation that ``build_block`` gives to each block, if the family has one."""
        return None

    @abstractmethod
    def build_norm(self) -> Norm:
        """Return a norm of the residual stream."""

    @abstractmethod
    def build_block(self, attention: Attention) -> Block:
        """Return one block, whose attention layer uses ``attention``."""

    def each_block(self) -> Iterator[Block]:
        """Yield the blocks in order, with their type."""
        for block in self.blocks:
            yield cast("Block", block)

    @property
    def head_weight(self) -> Tensor:
        """The head's weight ``[V, hidden]``. If it is tied, it is the embedding's weight."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @torch.no_grad()
    def init_weights(self) -> None:
        """Fill every parameter from torch's current random state, and the position tables.

        Matrices are normal with std ``initializer_range``. Matrices that write to the residual stream are
        divided by sqrt(2L), so that its variance does not grow with the depth (GPT-2, Radford et al. 2019,
        section 2.3). LLaMA and Qwen3 have not published their rules. They get the same one, as in
        Megatron-LM's ``scaled_init_method_normal``. Gains get ``Norm.initial_gain``, biases get zero.
        """
        std = self.config.initializer_range
        residual_std = std / (2 * self.config.num_hidden_layers) ** 0.5
        # By identity, because a name says nothing about the role of a matrix in a new family.
        residual = {id(weight) for block in self.each_block() for weight in block.residual_weights()}
        norms = [module for module in self.modules() if isinstance(module, Norm)]
        gains = {id(norm.weight) for norm in norms}

        # The order of the parameters decides which random numbers each matrix gets.
        for name, parameter in self.named_parameters():
            if id(parameter) in gains:
                continue

            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
                continue

            # A wrong guess would train badly and say nothing, so a new kind of parameter must have its
            # rule.
            if parameter.ndim < 2:
                raise ValueError(
                    f"{name} is neither a matrix, nor a bias, nor the gain of a Norm: no rule fills it"
                )

            nn.init.normal_(parameter, std=residual_std if id(parameter) in residual else std)

        for norm in norms:
            norm.reset_gain()

        # Tables are buffers and no parameters, so the loop above does not see them.
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
        """Return the logits ``[B, T, V]`` of tokens ``[B, T]``. With targets ``[B, T]``, return the loss.

        ``reduction`` "mean" returns a float32 scalar over all targets except -100. "none" returns the float32
        loss of each target ``[B, T]``; it is 0 for the target -100.

        With ``document_ids`` (integers ``[B, T]``) no token attends to another document. With a ``cache``,
        the tokens follow those in it and are added to it.

        Raises UserError for a sequence that is longer than the model's positions.
        """
        hidden = self.hidden_states(tokens, document_ids, cache)
        # Without targets all logits are made, which only short sequences of a generation can afford.
        if targets is None:
            return F.linear(hidden, self.head_weight)
        return self.cross_entropy(hidden, self.head_weight, targets, reduction)

    def hidden_states(
        self, tokens: Tensor, document_ids: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Return the last block's output after the final norm, ``[B, T, hidden]``."""
        start = cache.length if cache is not None else 0
        end = start + tokens.shape[1]
        self.check_length(end)

        # The fused path is for training and has no cache. Generation goes one token at a time.
        if self.fused is not None and cache is None:
            return self.fused(tokens, document_ids)

        x = self.embed_tokens(tokens)
        if self.embed_positions is not None:
            x = x + self.embed_positions(torch.arange(start, end, device=tokens.device))

        for index, block in enumerate(self.blocks):
            x = block(x, document_ids, cache.layers[index] if cache is not None else None)

        normed: Tensor = self.norm(x)

        return normed

    def check_length(self, positions: int) -> None:
        """Raise UserError if a sequence needs more positions than the model has."""
        longest = self.config.max_position_embeddings
        if positions > longest:
            raise UserError(
                f"a sequence of {positions} tokens is longer than the model's {longest} positions",
                hint="lower block_size, or raise the model's max_position_embeddings",
            )

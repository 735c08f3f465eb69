"""A model's training pass through the fused kernels, over the parameters of the plain model.

``FusedDecoder`` computes the same as ``Decoder.hidden_states`` and its loss, from the same parameters. They
keep their names and stay in float32. The residual stream is in the working dtype, as under FSDP's mixed
precision.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from jobctl.jobs.catalog.offloading import offloaded_blocks
from jobctl.jobs.catalog.schema import ActivationCheckpointing
from jobctl.trainer.distributed import local
from jobctl.trainer.fused.activation import gelu_project, swiglu_project
from jobctl.trainer.fused.add_norm import Kind, add_norm, normed
from jobctl.trainer.fused.block_weights import BlockWeights
from jobctl.trainer.fused.cross_entropy import KEPT_BYTES, KEPT_BYTES_OFFLOADING, HeadCrossEntropy
from jobctl.trainer.fused.embedding import look_up
from jobctl.trainer.fused.fp8 import Fp8Projection, Scales, fp8_feed_forward, fp8_project
from jobctl.trainer.fused.host_stash import HostStash
from jobctl.trainer.fused.linear import Projection, project, project_apart
from jobctl.trainer.fused.partition import Partition
from jobctl.trainer.fused.recompute import Discarding
from jobctl.trainer.fused.rotated_heads import rotate, rotated
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.family import BlockForm
from jobctl.trainer.models.layers.decoder import Block, Decoder
from jobctl.trainer.models.layers.feed_forward import FeedForward, GatedFeedForward
from jobctl.trainer.models.layers.norm import Norm
from jobctl.trainer.models.recompute import recomputed
from jobctl.trainer.models.registry import family_of


class Split(torch.autograd.Function):
    """Split the product of q, k and v into three views. Backward joins the three gradients."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, ...]:
        # q, k and v lie behind each other in one product. Grouped keys and values have fewer heads.
        parts = qkv.unflatten(-1, (heads + 2 * kv_heads, -1))
        views: tuple[Tensor, ...] = parts.split((heads, kv_heads, kv_heads), dim=2)
        return views

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, None, None]:
        return torch.cat((dq, dk, dv), dim=2).flatten(-2), None, None


class FusedBlock:
    """One block of the declared ``form``.

    It takes and returns the residual stream as a pair: x, and the tensor that is still to be added to it. So
    the addition and the next norm are one kernel.
    """

    def __init__(
        self,
        block: Block,
        attention: Attention,
        form: BlockForm,
        multiply: Callable[..., Projection],
        checkpointing: ActivationCheckpointing = "none",
    ) -> None:
        layer = block.self_attn
        self.checkpointing = checkpointing
        self.attention = attention
        self.kind: Kind = form.norm
        self.gated = form.feed_forward == "swiglu"

        self.rotary = layer.rotary
        self.norms = (block.input_layernorm, block.post_attention_layernorm)
        self.q_norm = layer.q_norm
        self.k_norm = layer.k_norm
        self.head_dim: int = layer.head_dim
        # The numbers of heads come from the shapes of the weights, which the product below joins.
        self.heads = layer.q_proj.weight.shape[0] // self.head_dim
        self.kv_heads = layer.k_proj.weight.shape[0] // self.head_dim

        # q, k and v have the same input, so one product of joined weights replaces three small ones.
        self.qkv = multiply([layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight])
        self.out = multiply([layer.o_proj.weight])
        self.up = multiply(self.first_weights(block.mlp))
        self.down = multiply([block.mlp.down_proj.weight])
        # Empty until use_fp8 is called. As long as it is empty, products take the plain path.
        self.fp8: list[Fp8Projection] = []
        self.stash: HostStash | None = None
        self.index = 0

    def first_weights(self, mlp: FeedForward) -> list[Tensor]:
        """Return the weights that multiply the input of the feed-forward layer. The gate comes first."""
        if self.gated:
            return [cast("GatedFeedForward", mlp).gate_proj.weight, mlp.up_proj.weight]
        return [mlp.up_proj.weight]

    def use_stash(self, stash: HostStash, index: int) -> None:
        """Keep the input of the activation in the host's memory, as block ``index``."""
        self.stash = stash
        self.index = index

    def use_fp8(self, scales: Scales) -> None:
        """Multiply in float8 from now on."""
        self.fp8 = [Fp8Projection(projection, scales) for projection in self.projections]

    @property
    def projections(self) -> list[Projection]:
        return [self.qkv, self.out, self.up, self.down]

    def __call__(self, x: Tensor, delta: Tensor | None, document_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map the pair x and delta, ``[B, T, hidden]`` each, to the next pair.

        Their sum is not computed before.
        """
        # Without gradients no tensor is kept, so there is nothing to discard or to make again.
        if self.checkpointing == "none" or not torch.is_grad_enabled():
            return self.compute(None, x, delta, document_ids)

        if self.checkpointing in ("selective", "offload"):
            with Discarding() as discarding:
                return self.compute(discarding, x, delta, document_ids)

        # "full" keeps one tensor for the block. So the sum is computed first, in the way of the first norm.
        x = x if delta is None else x + delta
        result: tuple[Tensor, Tensor] = recomputed("full", self.compute, None, x, None, document_ids)
        return result

    def compute(
        self, discarding: Discarding | None, x: Tensor, delta: Tensor | None, document_ids: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the block. With ``discarding`` it names the tensors that are cheap to make again."""
        x, y = self.add_norm(discarding, x, delta, self.norms[0])
        q, k, v = self.heads_of(y, discarding)
        delta = self.product(self.attention(q, k, v, document_ids).flatten(-2), 1)
        # The pair stays apart until here, so this kernel adds the attention's output and norms the sum in
        # one pass.
        x, y = self.add_norm(discarding, x, delta, self.norms[1])
        return x, self.feed_forward(y, discarding)

    def add_norm(
        self, discarding: Discarding | None, x: Tensor, delta: Tensor | None, norm: Norm
    ) -> tuple[Tensor, Tensor]:
        """Return x + delta, and its norm."""
        x, y = add_norm(x, delta, norm.weight, norm.eps, self.kind)
        if discarding:
            # Detached, because what backward makes again is no part of the graph.
            total = x.detach()
            discarding.discard(lambda: [normed(total, norm.weight.detach(), norm.eps, self.kind)], y)
        return x, y

    def product(self, x: Tensor, index: int) -> Tensor:
        """Return x times the weights of ``projections[index]``."""
        return fp8_project(x, self.fp8[index]) if self.fp8 else project(x, self.projections[index])

    def feed_forward(self, x: Tensor, discarding: Discarding | None = None) -> Tensor:
        """Map the normalised x ``[B, T, hidden]`` to the same shape."""
        if self.fp8:
            return fp8_feed_forward(x, self.fp8[2], self.fp8[3], self.gated)

        inner = project(x, self.up)
        if discarding and self.stash:
            self.offload(inner, self.stash, discarding)

        # With discarding the activation's result is not kept either: backward makes it again on its way.
        activate = swiglu_project if self.gated else gelu_project

        return activate(inner, self.down, keep=discarding is None)

    def offload(self, inner: Tensor, stash: HostStash, discarding: Discarding) -> None:
        """Let ``inner`` wait in the host's memory until backward needs it."""
        stash.leave(self.index, inner)
        discarding.discard(lambda: [stash.take(self.index)], inner)

    def heads_of(self, x: Tensor, discarding: Discarding | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v, ``[B, T, heads, D]``."""
        # Nothing turns the heads, so attention reads them where the product has written them.
        if self.rotary is None and not self.fp8:
            q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in project_apart(x, self.qkv))
            return q, k, v

        qkv = self.product(x, 0)
        if self.rotary is None:
            parts: tuple[Tensor, Tensor, Tensor] = Split.apply(  # type: ignore[no-untyped-call]
                qkv, self.heads, self.kv_heads
            )
            return parts

        # Not every family norms q and k. For one that does not, the kernel gets no weights.
        q_weight = None if self.q_norm is None else self.q_norm.weight
        k_weight = None if self.k_norm is None else self.k_norm.weight
        eps = 0.0 if self.q_norm is None else self.q_norm.eps

        tables = self.rotary.cos, self.rotary.sin
        q, k, v = rotated(qkv, *tables, q_weight, k_weight, self.heads, self.kv_heads, eps)

        # v is a part of the product, so the product is kept anyway. Only q and k are made again.
        if discarding:
            kept = qkv.detach()
            discarding.discard(
                lambda: rotate(kept, *tables, q_weight, k_weight, self.heads, self.kv_heads, eps), q, k
            )

        return q, k, v


class FusedDecoder:
    """The fused counterpart of a ``Decoder``. Call ``refresh`` after every change of the parameters.

    With a ``partition`` the model's matrices become this rank's rows of them. Raises ValueError for a model
    whose family declares no fused block.
    """

    def __init__(
        self,
        model: Decoder,
        attention: Attention,
        dtype: torch.dtype,
        partition: Partition | None = None,
        checkpointing: ActivationCheckpointing = "none",
    ) -> None:
        form = family_of(model.config.architecture).fused_block
        if form is None:
            raise ValueError(f"the family {model.config.architecture} declares no fused block")

        if model.config.bias:
            raise ValueError("the fused kernels have no biases, but the model has")

        self.model = model
        self.dtype = dtype
        self.kind: Kind = form.norm

        # Sharding replaces the parameters. It comes first, because the projections below keep them.
        if partition:
            partition.shard(model)

        multiply = functools.partial(Projection, dtype=dtype, partition=partition)
        self.blocks = [
            FusedBlock(block, attention, form, multiply, checkpointing) for block in model.each_block()
        ]
        tied = model.lm_head is None
        # A tied table gets two gradients in a backward pass, and is complete after the second one only.
        self.embedding = multiply([model.embed_tokens.weight], uses=2 if tied else 1)
        self.head = self.embedding if model.lm_head is None else multiply([model.lm_head.weight])

        self.in_turn: BlockWeights | None = None
        if partition and partition.reshard:
            self.in_turn = BlockWeights([block.projections for block in self.blocks], partition)

        self.stash: HostStash | None = None
        if checkpointing == "offload":
            self.stash = self.stash_of(offloaded_blocks(len(self.blocks)))

        kept = KEPT_BYTES_OFFLOADING if self.stash else KEPT_BYTES
        self.cross_entropy = HeadCrossEntropy(self.head, kept)
        self.scales: Scales | None = None
        # The working copies hold nothing yet.
        self.refresh()

    def stash_of(self, chosen: list[int]) -> HostStash:
        """Let the ``chosen`` blocks keep their largest tensor in the host's memory."""
        stash = HostStash(chosen, self.head.working.device)
        for index in chosen:
            self.blocks[index].use_stash(stash, index)

        return stash

    def use_fp8(self, ranks: int = 1) -> None:
        """Multiply in float8 in the blocks, on ``ranks`` ranks. Embedding and head stay as they are."""
        self.scales = Scales(self.head.working.device, ranks)
        for block in self.blocks:
            block.use_fp8(self.scales)

        # Only after all blocks have taken their places, whose number is the length of the scales.
        self.scales.allocate()
        self.refresh_fp8()

    def refresh_fp8(self) -> None:
        for block in self.blocks:
            for layer in block.fp8:
                layer.refresh()

    def resume(self) -> None:
        """Continue after a checkpoint has filled the parameters and ``scales.history``."""
        if self.scales is not None:
            self.scales.resume()
        self.refresh()

    def end_step(self, copied: bool) -> None:
        """Renew the working copies after the optimiser's step.

        ``copied`` is True if the optimiser has updated this rank's rows of them itself.
        """
        # Only the fused optimiser writes the copies on its way. After any other one they are stale.
        if not copied:
            self.round_parameters()

        # The float8 weights are rounded from the gathered copies, so the gather comes first.
        self.gather()
        if self.scales is not None:
            self.refresh_fp8()
            self.scales.end_step()

    def end_evaluation(self) -> None:
        """Forget the values that an evaluation has measured, so that it does not change the next steps."""
        if self.scales is not None:
            self.scales.forget_evaluation()

    def gather(self) -> None:
        """Copy the other ranks' rows into the working copies that stay in memory.

        With FSDP the copies of the blocks do not stay. They are gathered when a block runs.
        """
        staying = self.projections
        if self.in_turn:
            self.in_turn.forget()
            staying = self.ends

        # The inner list is complete before the first wait, so that all transfers run at the same time.
        for work in [work for projection in staying for work in projection.gather()]:
            work.wait()

    @property
    def ends(self) -> list[Projection]:
        return [self.embedding] if self.head is self.embedding else [self.embedding, self.head]

    @property
    def projections(self) -> list[Projection]:
        return [*self.ends, *(projection for block in self.blocks for projection in block.projections)]

    @property
    def weights(self) -> list[Tensor]:
        return [weight for projection in self.projections for weight in projection.weights]

    @torch.no_grad()
    def round_parameters(self) -> None:
        """Round the parameters, and write them into this rank's rows of the working copies."""
        # One call for all tensors: a kernel for each of them would cost more to launch than to run.
        copies = [rows for projection in self.projections for rows in projection.own]
        torch._foreach_copy_(copies, [local(weight) for weight in self.weights])

    def refresh(self) -> None:
        """Renew every working copy from the parameters."""
        # In this order: ranks exchange rounded rows, and float8 is rounded from the gathered copies.
        self.round_parameters()
        self.gather()
        self.refresh_fp8()

    def hidden_states(self, tokens: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Map tokens ``[B, T]`` to the last block's output after the final norm, ``[B, T, hidden]``."""
        x = look_up(tokens, self.embedding)
        if self.model.embed_positions is not None:
            x = x + self.model.embed_positions.weight[: tokens.shape[1]].to(self.dtype)

        delta: Tensor | None = None
        if self.stash:
            self.stash.begin()

        for index, block in enumerate(self.blocks):
            if self.in_turn:
                self.in_turn.need(index, 1)

            x, delta = block(x, delta, document_ids)
            # The hook runs when this block's backward pass is next, and its weights may have been replaced.
            if self.in_turn and delta.requires_grad:
                delta.register_hook(functools.partial(self.in_turn.before_backward, index))
            if self.stash and delta.requires_grad:
                delta.register_hook(functools.partial(self.fetch_before, self.stash, index))

        # Before the loss, which needs the most memory of all.
        if self.stash:
            self.stash.settle()

        # The last block's delta has still to be added.
        _, hidden = add_norm(x, delta, self.model.norm.weight, self.model.norm.eps, self.kind)

        return hidden

    @staticmethod
    def fetch_before(stash: HostStash, index: int, _: Tensor) -> None:
        """Fetch the tensor of the block before ``index``, whose own backward pass begins now."""
        stash.fetch(index - 1)

"""The work of a step: products, attention, moved bytes, and bytes that ranks send each other.

Kernels that only move memory are counted in bytes that they read and write. Fused kernels move each
tensor once.
The plain path's figures are counts of PyTorch's own operations, rounded. Each operation is a separate
pass over memory.
"""

from __future__ import annotations

import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.estimate.memory import KEPT_LOGITS
from jobctl.jobs.estimate.situation import WIDE, Situation
from jobctl.jobs.estimate.weights import multiplied

LOSS_PASSES = 90
"""Bytes that the plain loss moves for one logit: softmax, one-hot and difference in float32."""
UPDATE = 34
"""Bytes per parameter of AdamW: weight, two moments read and written; gradient read twice; copy written."""
PLAIN_WEIGHTS = 26
"""Bytes per parameter and micro-step on the plain path: weights rounded, gradients rounded and added."""
FLOAT8_WEIGHTS = 16
"""Bytes per parameter and micro-step of float8: a weight's gradient made in float32, then added."""


COMPUTED_AGAIN = {"none": 1.0, "selective": 1.0, "offload": 1.0, "full": 4 / 3}
"""Work of a block's products and attention: a forward pass is a third of forward and backward."""
MOVED_AGAIN = {"none": 1.0, "selective": 1.1, "offload": 1.1, "full": 4 / 3}
"""Passes of the fused kernels over memory."""
PLAIN_MOVED_AGAIN = {"none": 1.0, "selective": 1.25, "offload": 1.25, "full": 1.0}
"""The same for the plain path, which then moves as much as uncompiled blocks: 3 steps on an H200."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One step's work on one rank."""

    product_flops: float
    float8_flops: float
    attention_flops: float
    moved_bytes: float
    update_bytes: float
    sent_bytes: float
    """Bytes over the slowest link, as a ring sends them."""


def work_of_step(situation: Situation) -> Work:
    """Return the work of one step on one rank: every micro-step, the update and the reduction."""
    model = situation.model
    train = situation.train
    tokens = situation.tokens * train.gradient_accumulation_steps
    again = COMPUTED_AGAIN[train.activation_checkpointing]
    # A weight takes part in two operations of the forward pass and in four of the backward pass.
    blocks = again * 6 * multiplied(situation, blocks_only=True) * tokens
    head = 6 * arithmetic.head_parameters(model) * tokens

    # The same sums as the trainer's MFU, without the part that a causal mask skips.
    causal = arithmetic.flops_per_token_causal(model, train.block_size)
    attention = again * (causal - 6 * arithmetic.matmul_parameters(model)) * tokens

    moved = moved_bytes_per_token(situation) * tokens
    moved += moved_bytes_per_micro_step(situation) * train.gradient_accumulation_steps

    return Work(
        product_flops=head if situation.float8 else blocks + head,
        float8_flops=blocks if situation.float8 else 0.0,
        attention_flops=attention,
        moved_bytes=moved,
        update_bytes=UPDATE * arithmetic.parameters(model) / (situation.ranks if situation.sharded else 1),
        sent_bytes=sent_bytes(situation),
    )


def moved_bytes_per_token(situation: Situation) -> float:
    """Return the bytes that kernels without a product read and write per token, forward and backward."""
    shapes = situation.shapes
    # Plain blocks that are recomputed move as much as uncompiled ones.
    compiled = situation.train.activation_checkpointing == "none"
    per_block = {
        "fused": _float8_block if situation.float8 else _fused_block,
        "compiled": _compiled_block if compiled else _eager_block,
        "eager": _eager_block,
    }[situation.path](situation)

    # The fused loss reads the logits and writes their gradient in their place.
    passes = 2 * situation.narrow if situation.path == "fused" else LOSS_PASSES
    loss = passes * shapes.vocabulary

    ends = 36 * shapes.hidden
    factors = MOVED_AGAIN if situation.path == "fused" else PLAIN_MOVED_AGAIN
    again = factors[situation.train.activation_checkpointing]
    return shapes.layers * again * per_block + loss + ends


def _fused_block(situation: Situation) -> int:
    shapes = situation.shapes
    norms = 32 * shapes.hidden
    activation = (16 if situation.family.gated_feed_forward else 8) * shapes.inner
    return norms + activation + _rotation(situation)


def _rotation(situation: Situation) -> int:
    """Return the bytes of q/k-norm and rotation, one pass each way; 0 if positions are learned."""
    shapes = situation.shapes
    if not situation.family.rotary_positions:
        return 0

    moved = 4 * (shapes.queries + shapes.keys) + 4 * (shapes.queries + 2 * shapes.keys)
    if situation.family.qk_norm:
        moved += 2 * (shapes.queries + shapes.keys)

    return moved


def _float8_block(situation: Situation) -> int:
    """Count float8: a separate pass rounds each product's input and gradient, both ways."""
    shapes = situation.shapes
    inputs = 4 * (2 * shapes.hidden + shapes.queries)
    gradients = 4 * (2 * shapes.hidden + shapes.queries + 2 * shapes.keys)
    return _fused_block(situation) + inputs + gradients


def _compiled_block(situation: Situation) -> int:
    """Count a compiled block. The compiler fuses as our kernels do. The stream is float32."""
    shapes = situation.shapes
    activation = (16 if situation.family.gated_feed_forward else 8) * shapes.inner
    return 48 * shapes.hidden + activation + 2 * _rotation(situation)


def _eager_block(situation: Situation) -> int:
    """Count an eager block. Each operation is a pass: a norm of operations moves a row about fifty times."""
    shapes = situation.shapes
    heads = shapes.queries + shapes.keys
    layer_norm = situation.family.learned_positions

    norms = (120 if layer_norm else 380) * shapes.hidden
    activation = (26 if situation.family.gated_feed_forward else 12) * shapes.inner
    rotation = 120 * heads if situation.family.rotary_positions else 0
    head_norms = 150 * heads if situation.family.qk_norm else 0
    return norms + activation + rotation + head_norms


def moved_bytes_per_micro_step(situation: Situation) -> float:
    """Return the bytes that move once per micro-step, for any length."""
    if situation.path != "fused":
        return PLAIN_WEIGHTS * arithmetic.parameters(situation.model)

    moved = FLOAT8_WEIGHTS * multiplied(situation, blocks_only=True) if situation.float8 else 0
    a_row = situation.narrow * situation.shapes.vocabulary
    if situation.tokens * a_row > KEPT_LOGITS:
        # The head's gradient is made in a separate sum, and then added.
        moved += 4 * WIDE * arithmetic.head_parameters(situation.model)

    return moved


def sent_bytes(situation: Situation) -> float:
    """Return the bytes that one rank sends in a step. A ring passes (n - 1) / n of a sum or a gather."""
    ranks = situation.ranks
    if ranks == 1:
        return 0.0

    part = (ranks - 1) / ranks
    parameters = arithmetic.parameters(situation.model)
    reduced = WIDE * parameters * part
    # An all-reduce in a ring is a reduction and a gather.
    if situation.sharding == "ddp":
        return 2 * reduced
    if situation.sharding == "zero1":
        return reduced + situation.narrow * parameters * part

    # FSDP gathers a block twice in each micro-step: forward and backward.
    gathers = 2 * situation.train.gradient_accumulation_steps
    blocks = multiplied(situation, blocks_only=True)
    return reduced + situation.narrow * part * (parameters - blocks + gathers * blocks)

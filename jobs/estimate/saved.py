"""The tensors that a forward pass keeps for its backward pass, counted kernel by kernel.

Every figure is in bytes per token. The counts follow the code: ``trainer/fused/fused_decoder.py`` for the
fused blocks, ``trainer/models/layers`` for the plain ones. ``tests/jobs/estimate/test_saved.py`` compares
the plain ones with the tensors that autograd really keeps. ``docs/planning.md`` compares all of them with
measured peaks.
"""

from __future__ import annotations

import msgspec

from jobctl.jobs.catalog.offloading import offloaded_blocks
from jobctl.jobs.estimate.situation import WIDE, Situation


class Saved(msgspec.Struct, frozen=True):
    """Bytes per token that one block keeps, by origin."""

    norms: int
    """The residual stream, the output of the norms, and the products' inputs."""
    attention: int
    feed_forward: int

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return self.norms + self.attention + self.feed_forward


def saved_by_block(situation: Situation) -> Saved:
    """Return the bytes that one block keeps per token under the training's ``activation_checkpointing``."""
    if situation.train.activation_checkpointing == "full":
        return Saved(norms=stream_bytes(situation) * situation.shapes.hidden, attention=0, feed_forward=0)

    if situation.train.activation_checkpointing in ("selective", "offload"):
        return _selective_block(situation)

    return whole_block(situation)


def whole_block(situation: Situation) -> Saved:
    """Return the bytes that one block keeps per token if backward recomputes nothing."""
    if situation.path == "fused":
        return _float8_block(situation) if situation.float8 else _fused_block(situation)
    if situation.path == "compiled":
        return _compiled_block(situation)
    return _eager_block(situation)


def offloaded_bytes(situation: Situation) -> int:
    """Return the bytes per token that wait in the host's memory: the activation's input of some blocks."""
    if situation.train.activation_checkpointing != "offload":
        return 0

    inputs = 2 if situation.family.gated_feed_forward else 1
    a_block = situation.narrow * inputs * situation.shapes.inner
    return a_block * len(offloaded_blocks(situation.shapes.layers))


def stream_bytes(situation: Situation) -> int:
    """Return the bytes of a value of the residual stream: float32 under autocast."""
    return situation.narrow if situation.path == "fused" or situation.sharded else WIDE


def _selective_block(situation: Situation) -> Saved:
    """Count the tensors of a block that are kept if the backward pass recomputes the cheap ones."""
    shapes = situation.shapes
    narrow = situation.narrow
    inputs = 2 if situation.family.gated_feed_forward else 1
    if situation.path != "fused":
        # The block's input, and the results of each product and of attention, also of the last product.
        return Saved(
            norms=(stream_bytes(situation) + 2 * narrow) * shapes.hidden,
            attention=_attention_kept(situation),
            feed_forward=narrow * inputs * shapes.inner,
        )

    whole = whole_block(situation)
    rotated = narrow * (shapes.queries + shapes.keys) if situation.family.rotary_positions else 0
    if situation.float8:
        # Products keep their rounded inputs, which are not recomputed.
        return Saved(norms=whole.norms, attention=whole.attention - rotated, feed_forward=whole.feed_forward)

    return Saved(
        norms=whole.norms - narrow * 2 * shapes.hidden,
        attention=whole.attention - rotated,
        feed_forward=whole.feed_forward - narrow * shapes.inner,
    )


def _statistics(situation: Situation) -> int:
    """Count the two norms: each row's inverse deviation in float32, and with LayerNorm also its mean."""
    layer_norm = situation.family.learned_positions
    return 2 * WIDE * (2 if layer_norm else 1)


def _attention_kept(situation: Situation) -> int:
    """Count rotated queries and keys, values, output and each row's log-sum-exp."""
    shapes = situation.shapes
    kept = situation.narrow * (2 * shapes.queries + 2 * shapes.keys) + WIDE * shapes.heads
    if situation.train.attention_backend == "manual":
        # In float32: queries, repeated keys and values, and the probabilities of all positions.
        kept += WIDE * (3 * shapes.queries + shapes.heads * situation.train.block_size)

    if situation.train.document_masking:
        # One mask for each layer: a byte for each pair of positions.
        kept += situation.train.block_size

    return kept


def _fused_block(situation: Situation) -> Saved:
    shapes = situation.shapes
    narrow = situation.narrow
    projected = narrow * (shapes.queries + 2 * shapes.keys)

    # The values are a view of the product of q, k and v, so all of it stays.
    attention = projected + narrow * shapes.queries + WIDE * shapes.heads
    if situation.family.rotary_positions:
        attention += narrow * (shapes.queries + shapes.keys)

    if situation.train.document_masking:
        attention += situation.train.block_size

    inputs = 2 if situation.family.gated_feed_forward else 1
    return Saved(
        norms=narrow * 4 * shapes.hidden + _statistics(situation),
        attention=attention,
        feed_forward=narrow * (inputs + 1) * shapes.inner,
    )


def _float8_block(situation: Situation) -> Saved:
    """Count the kept tensors in float8. Products keep one-byte inputs; the activation's input is bfloat16."""
    shapes = situation.shapes
    narrow = situation.narrow
    plain = _fused_block(situation)

    inputs = 2 if situation.family.gated_feed_forward else 1
    return Saved(
        norms=narrow * 2 * shapes.hidden + 2 * shapes.hidden + _statistics(situation),
        attention=plain.attention + shapes.queries,
        feed_forward=narrow * inputs * shapes.inner + shapes.inner,
    )


def _compiled_block(situation: Situation) -> Saved:
    """Count the tensors that the compiler's partitioner keeps.

    These are inputs and outputs of products, and the block's input.

    Norms, rotation and SwiGLU are computed again. Under autocast the residual stream is float32.
    """
    shapes = situation.shapes
    narrow = situation.narrow
    norms = (stream_bytes(situation) + 3 * narrow) * shapes.hidden + _statistics(situation)

    attention = _attention_kept(situation)
    if situation.family.qk_norm:
        # Queries and keys before their norm, and its statistics.
        attention += narrow * (shapes.queries + shapes.keys) + WIDE * (shapes.heads + shapes.key_heads)

    matrices = 3 if situation.family.gated_feed_forward else 2
    return Saved(norms=norms, attention=attention, feed_forward=narrow * matrices * shapes.inner)


def _eager_block(situation: Situation) -> Saved:
    """Count the tensors without a compiler: each of PyTorch's operations keeps its own inputs."""
    shapes = situation.shapes
    narrow = situation.narrow

    attention = _attention_kept(situation)
    if situation.family.qk_norm:
        # The float32 value and its scaled form, both of them inputs of a product with the gain.
        attention += 2 * WIDE * (shapes.queries + shapes.keys) + WIDE * (shapes.heads + shapes.key_heads)

    # SwiGLU: gate, silu(gate), up and their product. GELU: its input and its output.
    values = 4 if situation.family.gated_feed_forward else 2
    return Saved(
        norms=_eager_norms(situation) + _statistics(situation),
        attention=attention,
        feed_forward=narrow * values * shapes.inner,
    )


def _eager_norms(situation: Situation) -> int:
    hidden = situation.shapes.hidden
    narrow = situation.narrow
    layer_norm = situation.family.learned_positions
    if situation.sharded and narrow < WIDE:
        # fully_shard gives the blocks a narrow stream, and each norm's output is already narrow.
        kept = 2 * narrow if layer_norm else 2 * WIDE + narrow
        return 2 * kept * hidden

    # LayerNorm keeps its input. RMSNorm, made of operations, also keeps its scaled form.
    kept = WIDE if layer_norm else 2 * WIDE
    if narrow == WIDE:
        return 2 * (kept + WIDE) * hidden

    # Autocast rounds a norm's output once for each product that reads it.
    readers = 3 + (2 if situation.family.gated_feed_forward else 1)
    return 2 * kept * hidden + readers * narrow * hidden


def saved_at_the_end(situation: Situation) -> int:
    """Return the bytes per token of the final norm and of the loss, without logits."""
    hidden = situation.shapes.hidden
    narrow = situation.narrow
    if situation.path == "fused":
        # The last sum, and its norm; the gradient of the norm, twice while it is scaled.
        return 4 * narrow * hidden + _statistics(situation) // 2

    layer_norm = situation.family.learned_positions
    stream = stream_bytes(situation)
    # RMSNorm, made of operations, keeps its float32 input and its scaled form.
    kept = stream if layer_norm else 2 * WIDE

    # The norm's output, and for the loss the rounded rows and their gradient.
    rows = 0 if stream == narrow else narrow
    return (kept + stream + rows + narrow) * hidden + _statistics(situation) // 2

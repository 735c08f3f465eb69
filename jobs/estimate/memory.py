"""Memory of one rank by part, at each moment of a step at which it may be largest.

The largest moment is nearly always the loss: all blocks have kept their tensors, and the logits exist too.
With a small vocabulary or long sequences it is the backward pass of the last block. With one micro-step
on the plain path it is the end of the backward pass, when all gradients exist.
"""

from __future__ import annotations

import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.estimate.saved import (
    Saved,
    offloaded_bytes,
    saved_at_the_end,
    saved_by_block,
    stream_bytes,
    whole_block,
)
from jobctl.jobs.estimate.situation import WIDE, Situation
from jobctl.jobs.estimate.weights import GIB, Fixed, fixed_bytes, own_rows

KEPT_LOGITS = 12 * GIB
KEPT_LOGITS_OFFLOADING = GIB // 2
CHUNK_BYTES = 2**31
"""Bounds of ``trainer/fused/cross_entropy.py``: bytes of logits kept whole, or of a chunk otherwise."""
CHUNK_ELEMENTS = 2**29
CPU_CHUNK_ELEMENTS = 2**23
"""Bounds of ``trainer/models/loss.py``."""
SCORES = 5 * 2**28
"""Bytes that attention's repeatable backward pass uses at once (``trainer/models/cudnn_attention.py``)."""
CONTEXT = 0.55
"""GiB that CUDA and its libraries take of a GPU before the first tensor."""
NCCL = 0.7
"""GiB of NCCL's channels, if ranks reduce."""
PROCESS = 0.45
"""GiB of a trainer's process without a GPU: the interpreter and PyTorch."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by part at the largest moment of a step."""

    moment: str
    fixed: Fixed
    activations: Saved
    """Activations of all blocks and all tokens."""
    head: int
    """The final norm, and the tensors that the loss keeps besides the logits."""
    logits: int
    temporary: int
    """The memory that the backward pass of one operation holds while it runs."""

    @property
    def total(self) -> int:
        """Return the memory that the allocator has given out."""
        return self.fixed.total + self.activations.total + self.head + self.logits + self.temporary

    def gib(self) -> dict[str, float]:
        """Return the parts and their ``total``, in GiB."""
        parts = {name: getattr(self.fixed, name) for name in Fixed.__struct_fields__}
        parts |= {f"activations_{name}": getattr(self.activations, name) for name in Saved.__struct_fields__}
        parts |= {"head": self.head, "logits": self.logits, "temporary": self.temporary}
        parts["total"] = self.total
        return {name: round(count / GIB, 4) for name, count in parts.items()}


def memory(situation: Situation) -> Memory:
    """Return the memory of one rank when it is largest."""
    moments = [_at_the_loss(situation), _behind_the_loss(situation), _in_attention(situation)]
    # The fused kernels keep their gradients from step to step, so the end of their pass is no peak.
    if situation.path != "fused":
        moments.append(_at_the_end(situation))

    return max(moments, key=lambda moment: moment.total)


def outside_gib(situation: Situation) -> float:
    """Return the GiB that a rank takes outside its allocator."""
    if not situation.gpu:
        return PROCESS

    outside = CONTEXT + (NCCL if situation.ranks > 1 else 0.0)
    if situation.path == "fused" and situation.sharding == "fsdp" and not situation.several_nodes:
        # GPUs of one machine read each other's rows, which are in a separate memory.
        outside += own_rows(situation) / GIB

    return outside


def host_gib(situation: Situation) -> float:
    """Return the GiB of pinned host memory that a rank keeps: for its share of a save, and for offloaded tensors."""
    offloaded = offloaded_bytes(situation) * situation.tokens
    return (checkpoint_bytes(situation) / situation.ranks + offloaded) / GIB


def checkpoint_bytes(situation: Situation) -> int:
    """Return the bytes of one checkpoint: float32 weights and two moments for each."""
    return 3 * WIDE * arithmetic.parameters(situation.model)


def _all_blocks(situation: Situation) -> Saved:
    """Return the memory that all blocks keep of a micro-batch."""
    block = saved_by_block(situation)
    layers = situation.shapes.layers
    return Saved(
        norms=block.norms * layers * situation.tokens,
        attention=block.attention * layers * situation.tokens,
        feed_forward=(block.feed_forward * layers - offloaded_bytes(situation)) * situation.tokens,
    )


def _inputs(situation: Situation) -> int:
    """Return the bytes of the token ids (int64). In float32 the embedding is the first block's input."""
    return 8 * situation.tokens


def _at_the_loss(situation: Situation) -> Memory:
    logits = _logits(situation)
    head = saved_at_the_end(situation) * situation.tokens + _inputs(situation)
    return Memory(
        moment="loss",
        fixed=fixed_bytes(situation),
        activations=_all_blocks(situation),
        head=head + _head_gradient(situation),
        logits=logits,
        temporary=0,
    )


def _logits_kept(situation: Situation) -> bool:
    """Return whether the fused loss keeps the gradient of all logits from forward to backward."""
    a_row = situation.narrow * situation.shapes.vocabulary
    # As in the fused loss there are at least 128 rows, even for a large vocabulary.
    return max(128, _most_kept_logits(situation) // a_row) >= situation.tokens


def _most_kept_logits(situation: Situation) -> int:
    offloads = situation.train.activation_checkpointing == "offload"
    return KEPT_LOGITS_OFFLOADING if offloads else KEPT_LOGITS


def _head_gradient(situation: Situation) -> int:
    """Return the bytes of the head's separate gradient, if the loss is computed in chunks."""
    if situation.path == "fused" and _logits_kept(situation):
        return 0
    return WIDE * arithmetic.head_parameters(situation.model)


def _logits(situation: Situation) -> int:
    """Return the bytes of the logits at one time, with the tensors that the loss makes of them."""
    vocabulary = situation.shapes.vocabulary
    a_row = situation.narrow * vocabulary
    if situation.path == "fused":
        if _logits_kept(situation):
            return situation.tokens * a_row
        chunk = min(CHUNK_BYTES, _most_kept_logits(situation))
        return max(128, chunk // a_row // 128 * 128) * a_row

    chunk, chunks = chunk_of(situation)
    return chunk * vocabulary * _bytes_of_a_score(situation, chunks)


def chunk_of(situation: Situation) -> tuple[int, int]:
    """Return the tokens in a chunk of the plain loss, and the number of chunks."""
    bound = CHUNK_ELEMENTS if situation.gpu else CPU_CHUNK_ELEMENTS
    most = max(128, bound // situation.shapes.vocabulary // 128 * 128)
    chunks = max(1, -(-situation.tokens // most))
    if chunks == 1:
        return situation.tokens, 1
    return min(most, -(-situation.tokens // chunks // 128) * 128), chunks


def _bytes_of_a_score(situation: Situation, chunks: int) -> int:
    """Return the bytes of one logit while the plain loss runs. The chunk before leaves its gradient."""
    narrow = situation.narrow
    before = narrow if chunks > 1 else 0
    if not situation.gpu:
        # The logits and their log-softmax, which becomes the gradient.
        return narrow + WIDE + before
    if situation.train.kernels != "plain":
        # One kernel works in place. The memory of a chunk is given back after the next chunk's product.
        return narrow + before

    # logits, float32 copy, exponentials, one-hot as bytes and as float32, and their difference
    copy = WIDE if narrow < WIDE else 0
    return narrow + copy + WIDE + 1 + WIDE + WIDE + before


def _behind_the_loss(situation: Situation) -> Memory:
    """Return the memory at the activation's gradient of the last block, whose tensors are all still kept."""
    shapes = situation.shapes
    narrow = situation.narrow
    stream = stream_bytes(situation)
    inputs = 2 if situation.family.gated_feed_forward else 1
    gradient = stream * shapes.hidden + narrow * inputs * shapes.inner

    return Memory(
        moment="the last block's feed-forward layer",
        fixed=_with_head_gradient(situation),
        activations=_all_blocks(situation),
        head=_inputs(situation),
        logits=0,
        temporary=(gradient + _made_again(situation)) * situation.tokens,
    )


def _made_again(situation: Situation) -> int:
    """Return bytes per token of the block that backward has just recomputed, if not all tensors are kept."""
    return max(0, whole_block(situation).total - saved_by_block(situation).total)


def _in_attention(situation: Situation) -> Memory:
    """Return the memory in attention's backward pass of the last block, without its feed-forward tensors."""
    shapes = situation.shapes
    narrow = situation.narrow
    stream = stream_bytes(situation)
    everything = _all_blocks(situation)
    block = saved_by_block(situation)
    rest = Saved(
        norms=everything.norms - block.norms // 2 * situation.tokens,
        attention=everything.attention,
        feed_forward=everything.feed_forward - block.feed_forward * situation.tokens,
    )

    again = max(0, whole_block(situation).attention - block.attention)
    gradients = 2 * stream * shapes.hidden + narrow * (2 * shapes.queries + 2 * shapes.keys)
    return Memory(
        moment="the last block's attention",
        fixed=_with_head_gradient(situation),
        activations=rest,
        head=_inputs(situation),
        logits=0,
        temporary=(gradients + again) * situation.tokens + _attention_workspace(situation),
    )


def _attention_workspace(situation: Situation) -> int:
    """Return the bytes of the scores' gradients if sums repeat, or else of a float32 sum for the queries."""
    shapes = situation.shapes
    block_size = situation.train.block_size
    if situation.train.attention_backend == "manual":
        return 2 * WIDE * shapes.heads * block_size * situation.tokens
    if not situation.gpu:
        return 0

    sums = WIDE * shapes.queries * situation.tokens
    if not situation.repeatable:
        return sums

    scores = situation.narrow * shapes.heads * block_size * situation.tokens
    return min(scores + sums, SCORES)


def _with_head_gradient(situation: Situation) -> Fixed:
    """Return the fixed memory. On the plain path the head now has its gradient, in every micro-step."""
    fixed = fixed_bytes(situation)
    if fixed.gradients:
        return fixed
    return msgspec.structs.replace(fixed, gradients=WIDE * arithmetic.head_parameters(situation.model))


def _at_the_end(situation: Situation) -> Memory:
    """Return the memory with all gradients, when that of the embedding has just been completed."""
    shapes = situation.shapes
    whole = WIDE * arithmetic.parameters(situation.model)
    fixed = msgspec.structs.replace(fixed_bytes(situation), gradients=whole)
    # Autocast's copies live only until the backward pass.
    if not situation.sharded:
        fixed = msgspec.structs.replace(fixed, working_copies=0)

    table = WIDE * shapes.vocabulary * shapes.hidden
    accumulates = situation.train.gradient_accumulation_steps > 1
    # A second micro-step makes a separate gradient of the embedding, then adds it to the sum.
    return Memory(
        moment="the end of the backward pass",
        fixed=fixed,
        activations=Saved(0, 0, 0),
        head=WIDE * shapes.hidden * situation.tokens + _inputs(situation),
        logits=0,
        temporary=table if accumulates else 0,
    )

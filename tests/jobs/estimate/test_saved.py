"""What a forward pass keeps, against what autograd really keeps."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
import torch
from torch import Tensor

from jobctl.jobs.estimate.saved import Saved, saved_at_the_end, saved_by_block
from jobctl.jobs.estimate.situation import Situation
from jobctl.trainer.models.attention import choose_attention
from jobctl.trainer.models.building import build_model
from tests.jobs.estimate.trainings import on_cpu, training

SMOKE = ["gpt2_smoke", "llama2_smoke", "llama3_smoke", "qwen3_smoke"]
LENGTH = 64


def kept_bytes(situation: Situation, layers: int, sequences: int) -> int:
    """Return bytes of all memory that one forward pass keeps, weights aside."""
    config = msgspec.structs.replace(situation.model, num_hidden_layers=layers)
    dtype = getattr(torch, situation.train.dtype)
    attention = choose_attention("sdpa", torch.device("cpu"), dtype, config.head_dim)
    model = build_model(config, attention)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    narrow = dtype is not torch.float32
    autocast = torch.autocast("cpu", dtype=dtype) if narrow else contextlib.nullcontext()
    tokens = torch.randint(0, 1000, (sequences, LENGTH + 1))

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        model(tokens[:, :-1], tokens[:, 1:])

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)


def kept_by_block(situation: Situation) -> float:
    """Return bytes a token and block: differences take away weights, tables, embedding and head."""
    more = kept_bytes(situation, 3, 4) - kept_bytes(situation, 1, 4)
    less = kept_bytes(situation, 3, 2) - kept_bytes(situation, 1, 2)
    return (more - less) / 2 / (2 * LENGTH)


@pytest.mark.parametrize("model", SMOKE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_plain_block_keeps_to_the_byte_what_autograd_keeps(model: str, dtype: str) -> None:
    situation = training(model, 4, "eager", dtype=dtype)
    assert saved_by_block(situation).total == kept_by_block(situation)


def test_a_fused_qwen_block_keeps_72_kilobytes_a_token() -> None:
    # The comments of the hardware's batch shapes say about 70 kB.
    block = saved_by_block(training("qwen3_1.8b", 16))
    assert block == Saved(norms=16392, attention=18496, feed_forward=36864)


def test_float8_keeps_a_byte_where_bfloat16_keeps_two() -> None:
    narrow = saved_by_block(training("qwen3_1.8b", 16))
    float8 = saved_by_block(training("qwen3_1.8b", 16, "float8"))
    assert float8.feed_forward == narrow.feed_forward - 6144
    assert float8.norms == narrow.norms - 2 * 2048
    # Attention keeps its output for its own backward pass, and the next product's rounded input beside it.
    assert float8.attention == narrow.attention + 2048


def test_the_compiler_keeps_less_than_plain_operations_and_more_than_fused_kernels() -> None:
    ways = [saved_by_block(training("qwen3_1.8b", 16, way)).total for way in ("fused", "compiled", "eager")]
    assert ways == sorted(ways)
    assert ways[0] < ways[1] < ways[2]


def test_a_narrow_stream_keeps_less_under_sharding() -> None:
    alone = training("llama3_1.5b", 8, "compiled")
    sharded = training("llama3_1.5b", 8, "compiled", ranks=2, use_zero1=True)
    assert saved_by_block(alone).norms - saved_by_block(sharded).norms == 2 * 2048
    assert saved_at_the_end(alone) - saved_at_the_end(sharded) == 4 * 2048


def test_manual_attention_keeps_the_probabilities() -> None:
    sdpa = saved_by_block(on_cpu("qwen3_smoke", 4))
    manual = saved_by_block(on_cpu("qwen3_smoke", 4, attention_backend="manual"))
    # Heads · positions float32 probabilities for each token, at least.
    assert manual.attention - sdpa.attention >= 4 * 4 * 128


def test_masked_documents_keep_a_byte_for_each_pair_of_positions() -> None:
    plain = saved_by_block(training("qwen3_1.8b", 8))
    masked = saved_by_block(training("qwen3_1.8b", 8, document_masking=True))
    assert masked.attention - plain.attention == 2048

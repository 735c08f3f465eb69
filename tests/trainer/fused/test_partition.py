"""ZeRO-1 and FSDP through the fused kernels: the steps of DDP, with half of what is sharded on each of two ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.distributed import World, bytes_of, local, named_parameters
from jobctl.trainer.fused import block_weights
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.fused.partition import Partition
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.training.step import Stepper
from tests.trainer.fused import ranks_on_cpu
from tests.trainer.models import tiny
from tests.trainer.running import on_ranks

pytestmark = ranks_on_cpu
RANKS = 2
STEPS = 2
LAYERS = 3
VOCABULARY = 257
TRAIN = msgspec.structs.replace(
    TrainConfig(), dtype="float32", gradient_accumulation_steps=2, grad_clip=0.5, learning_rate=1e-2
)


def steps(command: Sequence[str], world: World) -> dict[str, Any]:
    """Train a few steps; what came of it, and how much state this rank holds."""
    shape, sharding, *rest = command
    held = rest[0] if rest else ""
    how = rest[1] if len(rest) > 1 else "none"
    if held:
        block_weights.buffers_for = lambda *_: int(held)
    changes = {"head_dim": 16, "hidden_size": 64, "vocab_size": VOCABULARY, "num_hidden_layers": LAYERS}
    model = tiny.model(shape, seed=world.rank, **changes)  # rank 1's own weights must not be kept
    partition = Partition(world, reshard=sharding == "fsdp") if sharding != "ddp" else None
    fused = FusedDecoder(model, ManualAttention(), torch.float32, partition, how)  # type: ignore[arg-type]
    model.fused = fused.hidden_states
    model.cross_entropy = fused.cross_entropy
    optimizer = build_optimizer(model, TRAIN, sharding, fused)  # type: ignore[arg-type]
    stepper = Stepper(model, optimizer, TRAIN, world, sharding, 0, fused)  # type: ignore[arg-type]
    batches = (tiny.tokens(1, 9, seed=world.rank + RANKS * i) for i in itertools.count())
    results = []
    scores = []
    for _ in range(STEPS):
        results.append(stepper.run(batches, TRAIN.learning_rate, StepTimer(world.device)))
        with torch.no_grad():
            tokens = tiny.tokens(2, 9, seed=100)
            scores.append(float(model(tokens[:, :-1], tokens[:, 1:], reduction="none").sum()))
    names: dict[Tensor, str] = {p: name for name, p in named_parameters(model).items()}
    states = optimizer.state()
    moments = [t for name, t in states.items() if "exp_avg" in name]
    stepper.micro_step(next(batches), last=False)
    stepper.zero_gradients(fused)
    sums = [projection.gradient()[0] for projection in fused.projections]
    left = [*sums, *(local(p.grad) for p in names if p.grad is not None)]
    return {
        "left_in_gradients": max(float(tensor.abs().max()) for tensor in left),
        "norms": [float(r.grad_norm) for r in results],
        "losses": [float(r.loss) for r in results],
        "scores": scores,
        "weights": {name: whole(p.detach()).numpy() for p, name in names.items()},
        "own": torch.cat([rows.flatten() for p in fused.projections for rows in p.own]).numpy(),
        "rounded": torch.cat([local(w.detach()).flatten() for w in fused.weights]).numpy(),
        "bytes": bytes_of(iter(moments)),
        "whole_bytes": bytes_of(t for t in moments if not isinstance(t, DTensor)),
        "shapes": {name: tuple(t.shape) for name, t in states.items()},
        "buffers": len({block.qkv.working.data_ptr() for block in fused.blocks}),
    }


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_sharded_ranks_take_the_steps_of_ddp_and_what_is_computed_again_changes_no_bit(shape: str) -> None:
    """In one go: interpreted kernels are slow, and each layout is the measure of several others."""
    layouts = [["ddp"], ["zero1"], ["fsdp"], ["fsdp", str(LAYERS)]]
    again = [
        ["zero1", "", "selective"],
        ["zero1", "", "full"],
        ["fsdp", "2", "selective"],
        ["fsdp", "2", "full"],
    ]
    commands = [[shape, *layout] for layout in [*layouts, *again]]
    results = cast("list[dict[str, Any]]", on_ranks(RANKS, *commands, action=steps))
    ddp, zero1, fsdp, fsdp_kept, *computed_again = results
    steps_of_ddp_with_half_of_the_state(ddp, [zero1, fsdp, fsdp_kept])

    for plain, same in zip([zero1, zero1, fsdp, fsdp], computed_again, strict=True):
        assert same["buffers"] == plain["buffers"]
        no_bit_differs(plain, same)


def steps_of_ddp_with_half_of_the_state(ddp: dict[str, Any], others: list[dict[str, Any]]) -> None:
    assert min(ddp["norms"]) > TRAIN.grad_clip  # or clipping would not be seen
    assert ddp["left_in_gradients"] == 0.0
    for sharded in others:
        assert sharded["left_in_gradients"] == 0.0
        assert sharded["losses"] == pytest.approx(ddp["losses"], rel=1e-6)
        assert sharded["scores"] == pytest.approx(ddp["scores"], rel=1e-6)
        assert sharded["norms"] == pytest.approx(ddp["norms"], rel=1e-5)
        for name, expected in ddp["weights"].items():  # the rate is 1e-2, so 1e-5 is a thousandth of a step
            assert np.allclose(sharded["weights"][name], expected, rtol=1e-5, atol=1e-5), name
        assert np.array_equal(sharded["own"], sharded["rounded"])
        assert sharded["shapes"] == ddp["shapes"]  # so that a checkpoint of one loads into the other
        unshared = sharded["whole_bytes"]
        assert 0 < unshared < 0.5 * ddp["bytes"]  # the gains, and the table, whose rows do not divide by two
        assert sharded["bytes"] == unshared + (ddp["bytes"] - unshared) // RANKS
    assert [sharded["buffers"] for sharded in others] == [LAYERS, 2, LAYERS]


def no_bit_differs(plain: dict[str, Any], again: dict[str, Any]) -> None:
    assert again["losses"] == plain["losses"]
    assert again["norms"] == plain["norms"]
    for name, weight in plain["weights"].items():
        assert np.array_equal(again["weights"][name], weight), name

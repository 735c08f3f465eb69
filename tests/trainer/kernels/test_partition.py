"""ZeRO-1 through the fused kernels: the steps of DDP, with half of the optimiser's state on each of two ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from jobs.catalog.schema import TrainConfig
from tests.trainer.kernels import ranks_on_cpu
from tests.trainer.models import tiny
from tests.trainer.running import on_ranks
from trainer import checkpoint
from trainer.attention import ManualAttention
from trainer.kernels.decoder import FusedDecoder
from trainer.optimizer import build_optimizer
from trainer.parallel import World, bytes_of, named_parameters
from trainer.partition import Partition
from trainer.step import Stepper
from trainer.timing import StepTimer

pytestmark = ranks_on_cpu
RANKS, STEPS, VOCABULARY = 2, 2, 257
TRAIN = msgspec.structs.replace(
    TrainConfig(), dtype="float32", gradient_accumulation_steps=2, grad_clip=0.5, learning_rate=1e-2
)


def steps(command: Sequence[str], world: World) -> dict[str, Any]:
    """Train a few steps; what came of it, and how much state this rank holds."""
    shape, sharding = command
    model = tiny.model(shape, seed=0, head_dim=16, hidden_size=64, vocab_size=VOCABULARY)
    fused = FusedDecoder(model, ManualAttention(), torch.float32)
    model.fused, model.cross_entropy = fused.hidden_states, fused.cross_entropy
    partition = Partition(fused.weights, world) if sharding == "zero1" else None
    optimizer = build_optimizer(model, TRAIN, fused, partition)
    checkpoint.materialise(optimizer)
    stepper = Stepper(model, optimizer, TRAIN, world, sharding, 0, fused, partition)  # type: ignore[arg-type]
    batches = (tiny.tokens(1, 9, seed=world.rank + RANKS * i) for i in itertools.count())
    results = [stepper.run(batches, TRAIN.learning_rate, StepTimer(world.device)) for _ in range(STEPS)]
    names: dict[Tensor, str] = {p: name for name, p in named_parameters(model).items()}
    states = checkpoint.optimizer_tensors(optimizer, names)
    return {
        "norms": [float(r.grad_norm) for r in results],
        "losses": [float(r.loss) for r in results],
        "weights": {name: p.detach().numpy() for p, name in names.items()},
        "copies": torch.cat([copy.flatten() for p in fused.projections for copy in p.copies]).numpy(),
        "rounded": torch.cat([w.detach().flatten() for w in fused.weights]).numpy(),
        "bytes": bytes_of(t for name, t in states.items() if "exp_avg" in name),
        "whole_bytes": 8 * sum(p.numel() for p in names if partition and p not in partition.shared),
        "shapes": {name: tuple(t.shape) for name, t in states.items()},
    }


@pytest.mark.parametrize("shape", ["gpt2", "qwen3"])
def test_zero1_takes_the_steps_of_ddp_with_half_of_the_state(shape: str) -> None:
    ddp, zero1 = cast("list[dict[str, Any]]", on_ranks(RANKS, [shape, "ddp"], [shape, "zero1"], action=steps))
    assert zero1["losses"] == pytest.approx(ddp["losses"], rel=1e-6)
    assert zero1["norms"] == pytest.approx(ddp["norms"], rel=1e-5)
    assert min(ddp["norms"]) > TRAIN.grad_clip  # or clipping would not be seen
    for name, expected in ddp["weights"].items():  # the rate is 1e-2, so 1e-5 is a thousandth of a step
        assert np.allclose(zero1["weights"][name], expected, rtol=1e-5, atol=1e-5), name
    assert np.array_equal(zero1["copies"], zero1["rounded"])
    assert zero1["shapes"] == ddp["shapes"]  # so that a checkpoint of one loads into the other
    whole = zero1["whole_bytes"]
    assert 0 < whole < 0.5 * ddp["bytes"]  # the gains, and the table, whose rows do not divide by two
    assert zero1["bytes"] == whole + (ddp["bytes"] - whole) // RANKS

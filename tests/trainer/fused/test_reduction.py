"""Ranks that add their gradients up in place have, after the reduction, those of one process with all the batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jobctl.trainer.distributed import World
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.training.reduction import OverlappedReduction
from tests.trainer.fused import ranks_on_cpu
from tests.trainer.models import tiny
from tests.trainer.running import on_ranks

pytestmark = ranks_on_cpu
MICRO_STEPS = 2
RANKS = 2


def fused(shape: str, seed: int) -> tuple[nn.Module, FusedDecoder]:
    model = tiny.model(shape, seed=seed, head_dim=16, hidden_size=64, vocab_size=256)
    made = FusedDecoder(model, ManualAttention(), torch.float32)
    model.fused = made.hidden_states
    model.cross_entropy = made.cross_entropy
    return model, made


def add_gradient(model: nn.Module, seed: int, share: int) -> None:
    tokens = tiny.tokens(2, 9, seed=seed)
    (model(tokens[:, :-1], tokens[:, 1:]) / share).backward()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def reduced(command: Sequence[str], world: World) -> dict[str, Any]:
    """Gradients after two steps, and how many reductions were under way before the last backward pass had ended."""
    (shape,) = command
    model, made = fused(shape, seed=world.rank)  # rank 1 begins with other weights, and must not keep them
    reduction = OverlappedReduction(model, made.projections, world)
    made.refresh()
    for _ in range(2):
        model.zero_grad()
        for micro in range(MICRO_STEPS):
            if micro == MICRO_STEPS - 1:
                reduction.begin()
            add_gradient(model, seed=micro * RANKS + world.rank, share=MICRO_STEPS)
        under_way = len(reduction._under_way)
        reduction.finish()
    return {"gradients": {k: v.numpy() for k, v in gradients(model).items()}, "under_way": under_way,
            "projections": len(made.projections)}  # fmt: skip


def alone(shape: str) -> dict[str, Any]:
    """Gradients of one process that has all the batches."""
    model, _made = fused(shape, seed=0)
    for seed in range(MICRO_STEPS * RANKS):
        add_gradient(model, seed, share=MICRO_STEPS * RANKS)
    return {name: gradient.numpy() for name, gradient in gradients(model).items()}


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_each_gradient_is_averaged_once_and_on_its_way_before_the_backward_pass_ends(
    shape: str,
) -> None:
    (result,) = cast("list[dict[str, Any]]", on_ranks(RANKS, [shape], action=reduced))
    expected = alone(shape)
    assert result["under_way"] == result["projections"]
    assert result["gradients"].keys() == expected.keys()
    for name, gradient in expected.items():
        assert np.allclose(result["gradients"][name], gradient, rtol=1e-4, atol=1e-7), name

"""Every optimiser trains, plain and fused, and is found by its name."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import OptimizerName, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import World
from jobctl.trainer.optim.registry import build_optimizer, optimizer_names
from tests.trainer.models import tiny
from tests.trainer.optim import muon_like as muon_like  # registers its optimiser

CPU = torch.device("cpu")
HOST = World(rank=0, size=1, device=CPU)


def config(**changes: Any) -> TrainConfig:
    plain = TrainConfig(dtype="float32", learning_rate=1e-2, block_size=16)
    return msgspec.structs.replace(plain, **changes)


def test_the_schema_names_every_optimiser_of_ours() -> None:
    assert sorted([*get_args(OptimizerName), "muon_like"]) == optimizer_names()


def test_an_unknown_optimiser_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown optimizer 'adam'; did you mean 'adamw'"):
        build_optimizer(tiny.model("qwen3"), config(optimizer="adam"))


@pytest.mark.parametrize("sharding", ["zero1", "fsdp"])
def test_an_optimiser_of_whole_matrices_is_refused_where_they_are_sharded(sharding: Any) -> None:
    train = config(optimizer="muon_like")
    with pytest.raises(UserError, match=f"muon_like needs whole matrices, and {sharding}"):
        build_optimizer(tiny.model("qwen3"), train, sharding)
    assert muon_like.moments(build_optimizer(tiny.model("qwen3"), train, "ddp"))

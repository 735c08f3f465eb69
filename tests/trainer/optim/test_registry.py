"""Every optimiser trains, plain and fused, and is found by its name."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import OptimizerName, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import World
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.optim.registry import build_optimizer, optimizer_names
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.training.step import Stepper
from tests.trainer.models import tiny
from tests.trainer.optim import muon_like as muon_like  # registers its optimiser

CPU = torch.device("cpu")
HOST = World(rank=0, size=1, device=CPU)


def config(**changes: Any) -> TrainConfig:
    plain = TrainConfig(dtype="float32", learning_rate=1e-2, block_size=16)
    return msgspec.structs.replace(plain, **changes)


def losses(name: str, fused: bool, steps: int = 4) -> list[float]:
    """Return the loss of each step on one and the same batch."""
    model = tiny.model("llama-gqa", head_dim=16, hidden_size=64)
    train = config(optimizer=name)
    decoder = FusedDecoder(model, ManualAttention(), torch.float32) if fused else None
    if decoder is not None:
        model.fused = decoder.hidden_states
        model.cross_entropy = decoder.cross_entropy

    optimizer = build_optimizer(model, train, "none", decoder)
    stepper = Stepper(model, optimizer, train, HOST, "none", 0, decoder)
    batch = itertools.repeat(tiny.tokens(2, 17))
    timer = StepTimer(CPU)
    return [float(stepper.run(batch, train.learning_rate, timer).loss) for _ in range(steps)]


@pytest.mark.parametrize("name", optimizer_names())
def test_the_fused_weights_follow_every_optimiser(name: str) -> None:
    plain = losses(name, fused=False)
    fused = losses(name, fused=True)
    assert fused == pytest.approx(plain, rel=5e-3)
    assert all(later < earlier for earlier, later in itertools.pairwise(fused))


def test_torchs_adamw_takes_the_steps_of_ours() -> None:
    assert losses("torch_adamw", fused=True) == pytest.approx(losses("adamw", fused=True), rel=1e-5)


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


@pytest.mark.parametrize("name", optimizer_names())
def test_the_state_is_there_before_the_first_step_by_the_names_of_the_parameters(name: str) -> None:
    model = tiny.model("qwen3")
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    optimizer = build_optimizer(model, config(optimizer=name))
    state = optimizer.state()
    assert {key.rpartition(".")[0] for key in state} == dict(model.named_parameters()).keys()
    assert not any(value.any() for value in state.values())
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", optimizer_names())
def test_a_skipped_step_changes_neither_weights_nor_state(name: str) -> None:
    model = tiny.model("qwen3")
    optimizer = build_optimizer(model, config(optimizer=name))
    for skip, value in ((False, 1.0), (True, float("nan")), (False, 1.0)):
        before = {key: weight.clone() for key, weight in model.state_dict().items()}
        state = {key: tensor.clone() for key, tensor in optimizer.state().items()}
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        optimizer.step(torch.ones(()), torch.tensor(skip), 1e-3)
        for key, weight in model.state_dict().items():
            assert torch.equal(weight, before[key]) == skip, key
        if skip:
            assert all(torch.equal(tensor, state[key]) for key, tensor in optimizer.state().items())

"""What the step may expect of every registered optimiser, plain and fused."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.distributed import World
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.optim.protocol import Optimizer
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


def built(name: str) -> tuple[Decoder, Optimizer]:
    model = tiny.model("qwen3")
    return model, build_optimizer(model, config(optimizer=name, weight_decay=0.0))


@pytest.mark.parametrize("name", optimizer_names())
def test_the_factor_is_that_of_the_gradients(name: str) -> None:
    """A step with gradients of four times the size and a factor of a quarter is the same step."""
    weights = []
    for size, factor in ((1.0, 1.0), (4.0, 0.25)):
        model, optimizer = built(name)
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            parameter.grad = size * torch.randn(parameter.shape, generator=generator)
        optimizer.step(torch.tensor(factor), torch.tensor(False), 1e-3)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("name", optimizer_names())
def test_the_rate_is_that_of_the_call_and_not_of_the_one_before(name: str) -> None:
    model, optimizer = built(name)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(torch.ones(()), torch.tensor(False), 0.0)
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


@pytest.mark.parametrize("name", optimizer_names())
def test_the_live_state_is_returned_and_no_copy(name: str) -> None:
    """A checkpoint is loaded into these very tensors."""
    _, optimizer = built(name)
    first = optimizer.state()
    second = optimizer.state()
    assert first.keys() == second.keys()
    assert all(first[key].data_ptr() == second[key].data_ptr() for key in first)

"""AdamW for the fused kernels: torch's updates, and the copies that the next forward pass reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.optim.fused_adamw import FusedAdamW
from jobctl.trainer.optim.groups import parameter_groups
from jobctl.trainer.optim.torch_adapter import TorchOptimizer
from tests.trainer.fused.reference import DEVICE, error, random

TRAIN = TrainConfig(weight_decay=0.1, beta1=0.9, beta2=0.95, adam_eps=1e-8)
ONE = torch.ones((), device=DEVICE)
NO = torch.tensor(False, device=DEVICE)


def parameters() -> dict[str, nn.Parameter]:
    return {"matrix": nn.Parameter(random(50, 60)), "gain": nn.Parameter(random(60))}


def copied(named: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(weight.detach().clone()) for name, weight in named.items()}


def test_adamw_is_torchs_with_the_factor_applied_and_skips_when_told() -> None:
    ours = parameters()
    theirs = copied(ours)
    projection = Projection([ours["matrix"]], torch.bfloat16)
    fast = FusedAdamW(ours, TRAIN, [projection])
    plain = torch.optim.AdamW(parameter_groups(theirs, 0.1), lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    factor = torch.tensor(0.5, device=DEVICE)

    for step in range(5):
        for name, weight in ours.items():
            weight.grad = torch.randn_like(weight)
            theirs[name].grad = weight.grad * 0.5
        fast.step(factor, torch.tensor(step == 3, device=DEVICE), 1e-2)
        if step != 3:
            plain.step()

    for name, weight in ours.items():
        assert error(weight, theirs[name]) < 1e-6
        for key, value in plain.state[theirs[name]].items():
            torch.testing.assert_close(fast.state()[f"{name}.{key}"].cpu(), value.cpu())
    assert error(projection.working, ours["matrix"]) < 0.01


def test_its_state_and_torchs_go_into_each_other() -> None:
    """A run may change its kernels in the middle, and loads a checkpoint of the other optimiser."""
    fused_run = parameters()
    torch_run = copied(fused_run)
    fast = FusedAdamW(fused_run, TRAIN, [])
    plain = TorchOptimizer(
        torch_run, torch.optim.AdamW(parameter_groups(torch_run, 0.1), lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    )
    assert fast.state().keys() == plain.state().keys()

    for _ in range(2):
        for name, weight in fused_run.items():
            weight.grad = torch.randn_like(weight)
            torch_run[name].grad = weight.grad.clone()
        fast.step(ONE, NO, 1e-2)
        # What a checkpoint does: it writes into the tensors of the state.
        for name, value in plain.state().items():
            value.copy_(fast.state()[name])
        for name, weight in torch_run.items():
            weight.data.copy_(fused_run[name].data)

    for name, weight in fused_run.items():
        weight.grad = torch.ones_like(weight)
        torch_run[name].grad = torch.ones_like(weight)
    fast.step(ONE, NO, 1e-2)
    plain.step(ONE, NO, 1e-2)
    for name, weight in fused_run.items():
        assert error(weight, torch_run[name]) < 1e-6


def test_a_parameter_without_gradient_keeps_its_value_and_its_count() -> None:
    named = parameters()
    fast = FusedAdamW(named, TRAIN, [])
    before = named["gain"].detach().clone()
    named["matrix"].grad = torch.randn_like(named["matrix"])
    fast.step(ONE, NO, 1e-2)
    assert torch.equal(named["gain"], before)
    assert fast.state()["gain.step"] == 0
    assert fast.state()["matrix.step"] == 1


def test_a_frozen_parameter_has_no_state() -> None:
    named = parameters()
    named["gain"].requires_grad_(False)
    assert {name.split(".")[0] for name in FusedAdamW(named, TRAIN, []).state()} == {"matrix"}


@pytest.mark.parametrize("skipped", [True, False])
def test_only_a_step_that_counts_makes_the_correction_smaller(skipped: bool) -> None:
    named = parameters()
    fast = FusedAdamW(named, TRAIN, [])
    for weight in named.values():
        weight.grad = torch.randn_like(weight)
    fast.step(ONE, torch.tensor(skipped, device=DEVICE), 1e-2)
    assert fast.state()["matrix.step"] == (0 if skipped else 1)

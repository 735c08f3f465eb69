"""An optimiser of torch behind our protocol."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jobctl.trainer.optim.groups import parameter_groups
from jobctl.trainer.optim.torch_adapter import TorchOptimizer


def parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "matrix": nn.Parameter(torch.randn(4, 3, generator=generator)),
        "gain": nn.Parameter(torch.randn(4, generator=generator)),
    }


def adamw(named: dict[str, nn.Parameter], fused: bool = False) -> TorchOptimizer:
    groups = parameter_groups(named, 0.1)
    return TorchOptimizer(named, torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), fused=fused))


def set_gradients(named: dict[str, nn.Parameter], size: float = 1.0) -> None:
    for parameter in named.values():
        parameter.grad = size * torch.ones_like(parameter)


def one() -> Tensor:
    return torch.tensor(1.0)


def no() -> Tensor:
    return torch.tensor(False)


def test_making_it_makes_the_whole_state_and_changes_no_parameter() -> None:
    named = parameters()
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    optimizer = adamw(named)

    assert all(torch.equal(named[name], value) for name, value in before.items())
    assert set(optimizer.state()) >= {
        "matrix.exp_avg",
        "matrix.exp_avg_sq",
        "gain.exp_avg",
        "gain.exp_avg_sq",
    }
    assert all(not value.any() for value in optimizer.state().values())
    assert all(parameter.grad is None for parameter in named.values())


def test_a_step_is_torchs_step() -> None:
    ours = parameters()
    theirs = parameters()
    optimizer = adamw(ours)
    reference = torch.optim.AdamW(parameter_groups(theirs, 0.1), lr=1e-2, betas=(0.9, 0.95))

    for size in (1.0, -3.0, 0.5):
        set_gradients(ours, size)
        set_gradients(theirs, size)
        optimizer.step(one(), no(), 1e-2)
        reference.step()

    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_factor_multiplies_the_gradients() -> None:
    clipped = parameters()
    small = parameters()
    for named, size, factor in ((clipped, 4.0, 0.25), (small, 1.0, 1.0)):
        set_gradients(named, size)
        optimizer = adamw(named)
        set_gradients(named, size)
        optimizer.step(torch.tensor(factor), no(), 1e-2)

    assert all(torch.equal(clipped[name], small[name]) for name in clipped)


def test_a_skipped_step_leaves_parameters_and_state() -> None:
    for fused in (False, True):
        named = parameters()
        optimizer = adamw(named, fused)
        set_gradients(named)
        optimizer.step(one(), no(), 1e-2)
        before = {name: value.clone() for name, value in {**named, **optimizer.state()}.items()}

        set_gradients(named, float("nan"))
        optimizer.step(one(), torch.tensor(True), 1e-2)

        after = {**named, **optimizer.state()}
        assert all(torch.equal(after[name], value) for name, value in before.items()), fused


def test_two_optimisers_share_a_model_and_one_rate() -> None:
    named = parameters()
    matrix = torch.optim.SGD([named["matrix"]], lr=1.0)
    gain = torch.optim.SGD([named["gain"]], lr=5.0)
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    optimizer = TorchOptimizer(named, matrix, gain)

    set_gradients(named)
    optimizer.step(one(), no(), 0.5)

    assert all(torch.allclose(named[name], value - 0.5) for name, value in before.items())


def test_a_restored_state_goes_on_as_the_first_did() -> None:
    """A checkpoint writes into the tensors that ``state`` returns."""
    whole = parameters()
    resumed = parameters()
    first = adamw(whole)
    set_gradients(whole)
    first.step(one(), no(), 1e-2)

    second = adamw(resumed)
    for name, parameter in resumed.items():
        parameter.data.copy_(whole[name].data)
    for name, value in second.state().items():
        value.copy_(first.state()[name])

    for named, optimizer in ((whole, first), (resumed, second)):
        set_gradients(named, 2.0)
        optimizer.step(one(), no(), 1e-2)

    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

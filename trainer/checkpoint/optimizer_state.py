"""The optimiser's state as tensors with names, so that it fits whatever order or sharding loads it."""

from __future__ import annotations

import torch


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str]
) -> dict[str, torch.Tensor]:
    """The tensors of the optimiser's state, by the names of their parameters."""
    return {
        f"optimizer.{names[parameter]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def materialise(optimizer: torch.optim.Optimizer) -> None:
    """Allocate the optimiser's state, which its first step would do; weights stay as they are."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)

    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.zero_()

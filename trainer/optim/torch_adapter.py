"""Use optimisers of torch through our protocol."""

from __future__ import annotations

import torch
from torch import Tensor

from jobctl.trainer.distributed import local
from jobctl.trainer.optim.groups import Parameters


class TorchOptimizer:
    """One or several optimisers of torch. Each has a part of the model's parameters.

    Every group gets the same learning rate. An optimiser that torch calls ``fused`` reads ``skip`` on the
    device. For any other optimiser the host waits for ``skip``, which costs nothing on a CPU.
    """

    updates_copies = False

    def __init__(self, parameters: Parameters, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        # Parameters are found by identity, for torch's state has no names.
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.skips_on_device = all(group.get("fused") for group in self.groups)
        self.allocate_state()

    @torch.no_grad()
    def step(self, factor: Tensor, skip: Tensor, rate: float) -> None:
        """Update the parameters; see ``Optimizer.step``."""
        gradients = [local(parameter.grad) for parameter in self.names if parameter.grad is not None]
        # In place: the gradients are cleared after the step anyway.
        torch._foreach_mul_(gradients, factor)
        for group in self.groups:
            group["lr"] = rate

        if self.skips_on_device:
            for optimizer in self.optimizers:
                optimizer.found_inf = skip.float()  # type: ignore[attr-defined]  # as GradScaler does
                optimizer.step()
        elif not bool(skip):
            for optimizer in self.optimizers:
                optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of all states by ``PARAMETER.KEY``."""
        return {
            f"{self.names[parameter]}.{key}": value
            for optimizer in self.optimizers
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
            # torch keeps numbers in the state, too.
            if isinstance(value, Tensor)
        }

    def allocate_state(self) -> None:
        """Make the state, which torch would make only in the first step. Parameters stay as they are."""
        # A step with rate 0 and gradients of 0 makes the state. With rate 0 there is no weight decay either.
        rates = [group["lr"] for group in self.groups]
        for group in self.groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)

        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        for group, rate in zip(self.groups, rates, strict=True):
            group["lr"] = rate

        # That step was counted, and the real steps begin at 0.
        for value in self.state().values():
            value.zero_()

"""AdamW for the fused kernels. Clipping, update and the new working copy take one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.distributed import local
from jobctl.trainer.fused.adamw_kernel import update
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.optim.groups import Parameters, decay_groups


class FusedAdamW:
    """``torch.optim.AdamW`` with the kernel's update, and with the same names of its state.

    So a checkpoint of one can be loaded into the other. Each rank updates its own rows of a sharded weight.
    """

    updates_copies = True

    def __init__(self, parameters: Parameters, train: TrainConfig, projections: Sequence[Projection]) -> None:
        decayed, exempt = decay_groups(parameters)
        self.weights = decayed | exempt
        self.decay = dict.fromkeys(decayed, train.weight_decay) | dict.fromkeys(exempt, 0.0)
        self.betas = (train.beta1, train.beta2)
        self.eps = train.adam_eps
        self.copies: dict[Tensor, Tensor] = {
            weight: rows
            for projection in projections
            for weight, rows in zip(projection.weights, projection.own, strict=True)
        }

        # All of it at once, so that a checkpoint can be loaded before the first step.
        self.states = {name: self.fresh_state(weight) for name, weight in self.weights.items()}

    def fresh_state(self, weight: nn.Parameter) -> dict[str, Tensor]:
        """Return the state of a weight before the first step, with the sharding of the weight."""
        return {
            # On the device, where the kernel reads it and a skipped step leaves it.
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }

    @torch.no_grad()
    def step(self, factor: Tensor, skip: Tensor, rate: float) -> None:
        """Update the weights; see ``Optimizer.step``."""
        updated = {name: weight for name, weight in self.weights.items() if weight.grad is not None}
        skipped = skip.float()

        # A list of tensors, because the host would read a single tensor and wait for the device.
        steps = [self.states[name]["step"] for name in updated]
        torch._foreach_add_(steps, [1.0 - skipped] * len(steps))

        for name, weight in updated.items():
            assert weight.grad is not None
            state = self.states[name]
            update(
                local(weight),
                local(weight.grad),
                local(state["exp_avg"]),
                local(state["exp_avg_sq"]),
                state["step"],
                copy=self.copies.get(weight),
                factor=factor,
                skipped=skipped,
                rate=rate,
                betas=self.betas,
                eps=self.eps,
                decay=self.decay[name],
            )

    def state(self) -> dict[str, Tensor]:
        """Return the moments and the step counts by ``PARAMETER.KEY``."""
        return {f"{name}.{key}": value for name, state in self.states.items() for key, value in state.items()}

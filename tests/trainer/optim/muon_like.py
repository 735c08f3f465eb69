"""A second optimiser that only the tests have, made as CONTRIBUTING's recipe says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.optim.groups import Parameters
from jobctl.trainer.optim.protocol import Optimizer
from jobctl.trainer.optim.registry import OptimizerEntry, register
from jobctl.trainer.optim.torch_adapter import TorchOptimizer


class Orthogonal(torch.optim.Optimizer):
    """Step along the nearest orthogonal matrix of the momentum (after Muon, Jordan et al. 2024)."""

    def __init__(self, matrices: list[nn.Parameter], rate: float) -> None:
        super().__init__(matrices, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(0.9).add_(weight.grad)
                left, _, right = torch.linalg.svd(momentum, full_matrices=False)
                weight.sub_(left @ right, alpha=group["lr"])


def build(parameters: Parameters, train: TrainConfig, _: object) -> Optimizer:
    """The blocks' matrices move along orthogonal matrices, the rest by AdamW."""
    blocks = {name: p for name, p in parameters.items() if name.startswith("blocks.") and p.ndim == 2}
    rest = [p for name, p in parameters.items() if name not in blocks]
    return TorchOptimizer(
        parameters,
        Orthogonal(list(blocks.values()), train.learning_rate),
        torch.optim.AdamW(rest, lr=train.learning_rate),
    )


register("muon_like", OptimizerEntry(build, shardable=False))


def moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of the orthogonal part."""
    return {name: value for name, value in optimizer.state().items() if name.endswith(".momentum")}

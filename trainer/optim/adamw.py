"""AdamW, and which parameters it decays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from jobctl.jobs.catalog.schema import TrainConfig

if TYPE_CHECKING:
    from jobctl.trainer.fused.fused_decoder import FusedDecoder


def decay_groups(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Parameters by name: those that decay, and those that do not.

    Every matrix decays, embeddings included, and no gain does: nanoGPT's rule (``configure_optimizers``). A
    tied weight appears once.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = {name: parameter for name, parameter in trained.items() if parameter.ndim >= 2}
    return decayed, {name: parameter for name, parameter in trained.items() if name not in decayed}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The non-empty groups as an optimiser takes them: "decay" first, then "no_decay"."""
    decayed, exempt = decay_groups(model)
    groups: list[dict[str, Any]] = [
        {"name": "decay", "params": list(decayed.values()), "weight_decay": weight_decay},
        {"name": "no_decay", "params": list(exempt.values()), "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module, train: TrainConfig, fused: FusedDecoder | None = None
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) over the model's parameters, sharded or not, in one kernel.

    Built after the model has been sharded and moved. The learning rate is the schedule's to set each step. With
    the fused kernels its step also renews their copies of the weights.
    """
    groups = parameter_groups(model, train.weight_decay)
    betas = (train.beta1, train.beta2)
    if fused is None:
        return torch.optim.AdamW(groups, lr=train.learning_rate, betas=betas, eps=train.adam_eps, fused=True)
    from jobctl.trainer.fused.adamw_kernel import FusedAdamW

    optimizer = FusedAdamW(groups, fused.projections, lr=train.learning_rate, betas=betas, eps=train.adam_eps)
    optimizer.register_step_post_hook(lambda *_: fused.end_step())
    return optimizer

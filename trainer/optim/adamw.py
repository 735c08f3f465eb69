"""AdamW (Loshchilov and Hutter 2019): ours for the fused kernels, otherwise torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.optim.groups import Parameters, parameter_groups
from jobctl.trainer.optim.protocol import Optimizer
from jobctl.trainer.optim.torch_adapter import TorchOptimizer

if TYPE_CHECKING:
    from jobctl.trainer.fused.fused_decoder import FusedDecoder


def build_adamw(parameters: Parameters, train: TrainConfig, fused: FusedDecoder | None) -> Optimizer:
    """Return the faster AdamW for these kernels. Both update in one kernel."""
    if fused is None:
        return build_torch_adamw(parameters, train, fused)

    # Imported here: it needs Triton, which a machine without a GPU may not have.
    from jobctl.trainer.optim.fused_adamw import FusedAdamW

    return FusedAdamW(parameters, train, fused.projections)


def build_torch_adamw(parameters: Parameters, train: TrainConfig, fused: FusedDecoder | None) -> Optimizer:
    """Return ``torch.optim.AdamW`` in its fused implementation, for any kernels."""
    optimizer = torch.optim.AdamW(
        parameter_groups(parameters, train.weight_decay),
        lr=train.learning_rate,
        betas=(train.beta1, train.beta2),
        eps=train.adam_eps,
        # One kernel for all parameters. It also reads `found_inf` on the device, so a bad step needs no wait
        # of the host.
        fused=True,
    )

    return TorchOptimizer(parameters, optimizer)

"""Fused training kernels, written in Triton; beside each stands its plain-PyTorch reference.

This file is the one place that decides whether they run. It imports on machines without Triton; the others do not.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import Sharding, World
from jobctl.trainer.fused.partition import Partition
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.loss import CrossEntropy

if TYPE_CHECKING:
    from jobctl.trainer.fused.fused_decoder import FusedDecoder


FLOAT8 = "float8 in the blocks"
"""How ``fuse`` says that blocks multiply in float8."""


def obstacle(train: TrainConfig, device: torch.device) -> str:
    """Why the fused kernels cannot run; empty where they can."""
    if reason := without_triton(device):
        return reason
    if train.dtype != "bfloat16":
        return f"they compute in bfloat16, not {train.dtype}"
    return ""


def without_triton(device: torch.device) -> str:
    """Why no Triton kernel can run; empty where they can."""
    if device.type != "cuda":
        return "they need an NVIDIA GPU"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "they need compute capability 8.0 or higher"
    if find_spec("triton") is None:
        return "the package 'triton' is not installed"
    return ""


def fp8_obstacle(sharding: str, device: torch.device) -> str:
    """Why float8 products cannot run; empty where they can."""
    if torch.cuda.get_device_capability(device) < (8, 9):
        return "it needs compute capability 8.9 or higher"
    if sharding == "fsdp":
        return "it needs whole weights on each GPU, and fsdp gathers a block's when it runs"
    return ""


def fuse_loss(model: nn.Module) -> None:
    """Let the softmax and its gradient be one kernel; all else of ``model`` stays as it is, sharded or not."""
    from jobctl.trainer.fused.cross_entropy import losses_and_gradient

    model.cross_entropy = CrossEntropy(kernel=losses_and_gradient)


def fuse(
    model: nn.Module, attention: Attention, train: TrainConfig, sharding: Sharding, world: World
) -> tuple[FusedDecoder | None, str]:
    """Give ``model`` its fused counterpart where ``train`` wants it and it runs; and say in words what was chosen.

    A sharded model's matrices become this rank's rows of them. Raises UserError where ``kernels`` asks for what cannot
    run. Float8 that cannot run is left out and said.
    """
    device = world.device
    reason = "as asked" if train.kernels == "plain" else obstacle(train, device)
    if reason:
        if train.kernels == "fused":
            raise UserError(f"kernels: fused cannot run here: {reason}", hint="kernels: auto takes what runs")
        name = f"plain: {reason}" + (", so float8 is left out" if train.use_fp8 else "")
        if train.kernels == "plain" or without_triton(device):
            return None, name
        fuse_loss(model)
        return None, f"{name}; cross-entropy fused"
    from jobctl.trainer.fused.fused_decoder import FusedDecoder

    partition = Partition(world, reshard=sharding == "fsdp") if sharding in ("zero1", "fsdp") else None
    fused = FusedDecoder(model, attention, torch.bfloat16, partition)
    name = "fused, bfloat16"
    if train.use_fp8:
        reason = fp8_obstacle(sharding, device)
        if not reason:
            fused.use_fp8(world.size)
        name = f"fused, {f'bfloat16, float8 left out: {reason}' if reason else FLOAT8}"
    model.fused = fused.hidden_states
    model.cross_entropy = fused.cross_entropy
    return fused, name

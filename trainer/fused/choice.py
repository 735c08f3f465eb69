"""Decide if the fused kernels run, and give a model its fused counterpart.

Only this file decides it. It can be imported on machines without Triton; most others in this folder cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import Sharding, World
from jobctl.trainer.fused.partition import Partition
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.models.loss import CrossEntropy
from jobctl.trainer.models.registry import family_of

if TYPE_CHECKING:
    from jobctl.trainer.fused.fused_decoder import FusedDecoder


@dataclass(frozen=True)
class KernelChoice:
    """The choice for a run, and ``words`` with its reason. If ``decoder`` is None, the blocks stay plain."""

    decoder: FusedDecoder | None
    words: str
    float8: bool = False
    """True if the blocks multiply in float8."""


def obstacle(train: TrainConfig, device: torch.device) -> str:
    """Return why the fused kernels cannot run, or an empty text if they can."""
    if reason := without_triton(device):
        return reason

    if train.dtype != "bfloat16":
        return f"they compute in bfloat16, not {train.dtype}"

    return ""


def without_triton(device: torch.device) -> str:
    """Return why no Triton kernel can run, or an empty text if they can."""
    if device.type != "cuda":
        return "they need an NVIDIA GPU"

    if torch.cuda.get_device_capability(device) < (8, 0):
        return "they need compute capability 8.0 or higher"

    if find_spec("triton") is None:
        return "the package 'triton' is not installed"

    return ""


def undeclared(config: ModelConfig) -> str:
    """Return why the blocks of a model are never fused, or an empty text if its family declares a fused block."""
    if family_of(config.architecture).fused_block is None:
        return f"the family {config.architecture} declares no fused block"

    if config.bias:
        return "they have no biases, but the model has"

    return ""


def fp8_obstacle(sharding: str, device: torch.device) -> str:
    """Return why float8 products cannot run, or an empty text if they can."""
    if torch.cuda.get_device_capability(device) < (8, 9):
        return "it needs compute capability 8.9 or higher"

    if sharding == "fsdp":
        return "it needs whole weights on each GPU, but fsdp gathers a block's weights only when it runs"

    return ""


def fuse(
    model: Decoder, attention: Attention, train: TrainConfig, sharding: Sharding, world: World
) -> KernelChoice:
    """Give ``model`` its fused counterpart if ``train`` asks for it and it can run.

    The matrices of a sharded model become this rank's rows of them. If float8 cannot run, it is left out, and
    the words name the reason. Raises UserError if ``kernels: fused`` cannot run.
    """
    if train.kernels == "plain":
        return stay_plain(model, train, world.device, "as asked")

    reason = undeclared(model.config) or obstacle(train, world.device)
    require_fused_to_offload(train, reason)
    if not reason:
        return take_fused(model, attention, train, sharding, world)

    if train.kernels == "fused":
        raise UserError(
            f"kernels: fused cannot run here: {reason}", hint="kernels: auto chooses kernels that run"
        )

    return stay_plain(model, train, world.device, reason)


def require_fused_to_offload(train: TrainConfig, reason: str) -> None:
    """Raise UserError if ``reason`` stops the fused kernels, and the training needs them to offload."""
    if reason and train.activation_checkpointing == "offload":
        raise UserError(
            f"activation_checkpointing=offload needs the fused kernels, which cannot run here: {reason}",
            hint="activation_checkpointing=selective runs with all kernels",
        )


def stay_plain(model: Decoder, train: TrainConfig, device: torch.device, reason: str) -> KernelChoice:
    """Leave the blocks as they are.

    If Triton runs and the user did not ask for plain, still fuse the loss.
    """
    words = f"plain: {reason}"
    if train.use_fp8:
        words += ", so float8 is left out"

    if train.kernels == "plain" or without_triton(device):
        return KernelChoice(None, words)

    fuse_loss(model)

    return KernelChoice(None, f"{words}; cross-entropy fused")


def fuse_loss(model: Decoder) -> None:
    """Compute the softmax and its gradient in one kernel. The rest of ``model`` stays as it is."""
    # Imported here, because it needs Triton, which a machine without a GPU may not have.
    from jobctl.trainer.fused.cross_entropy import losses_and_gradient

    model.cross_entropy = CrossEntropy(kernel=losses_and_gradient)


def take_fused(
    model: Decoder, attention: Attention, train: TrainConfig, sharding: Sharding, world: World
) -> KernelChoice:
    """Let the fused kernels compute ``model``, in float8 if it is asked for and can run."""
    # Imported here, because it needs Triton, which a machine without a GPU may not have.
    from jobctl.trainer.fused.fused_decoder import FusedDecoder

    partition = Partition(world, reshard=sharding == "fsdp") if sharding in ("zero1", "fsdp") else None
    checkpointing = train.activation_checkpointing
    decoder = FusedDecoder(model, attention, torch.bfloat16, partition, checkpointing)
    model.fused = decoder.hidden_states
    model.cross_entropy = decoder.cross_entropy

    if not train.use_fp8:
        return KernelChoice(decoder, "fused, bfloat16")

    # float8 only makes a run faster, so a run goes on without it and says so.
    if reason := fp8_obstacle(sharding, world.device):
        return KernelChoice(decoder, f"fused, bfloat16, float8 left out: {reason}")

    decoder.use_fp8(world.size)

    return KernelChoice(decoder, "fused, float8 in the blocks", float8=True)

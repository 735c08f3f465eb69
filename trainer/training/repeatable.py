"""Decide whether a run's bits repeat on the same machine type, GPUs, layout, versions and seed.

Every operation of the training pass sums in a fixed order but for attention's backward pass, and so do torch's others
when torch is told to (``torch.use_deterministic_algorithms``). On a CPU all do.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec

import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.attention import Attention, choose_attention
from jobctl.trainer.models.cudnn_attention import MODULE, PACKAGE

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""Workspaces of a fixed size (cuBLAS documentation, section 2.1.4); torch asks for them before the first product."""


def tell_torch(deterministic: bool) -> None:
    """Make torch use only operations that repeat, or allow all of them again.

    torch raises RuntimeError for an operation that has no such form. Call it before the first product on a GPU.
    """
    if deterministic:
        os.environ.setdefault(*CUBLAS_WORKSPACE)
        # Else torch fills all new memory with NaN, which takes time: 6% of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    torch.use_deterministic_algorithms(deterministic)


def choose_repeatable_attention(
    train: TrainConfig, device: torch.device, dtype: torch.dtype, head_dim: int
) -> Attention:
    """Return the attention of a run. Its ``unrepeatable`` says if the bits of the run repeat.

    ``train.deterministic`` auto uses an attention that repeats if that costs less than 1% of a step. ``on`` always
    uses one. Raises UserError if there is none.
    """
    choose = functools.partial(
        choose_attention, device=device, dtype=dtype, head_dim=head_dim, documents=train.document_masking
    )
    if device.type != "cuda":
        attention = choose(train.attention_backend)
        reason = ""
    elif train.deterministic == "on":
        # Before the choice, which tries each kernel and must meet torch's refusals.
        tell_torch(deterministic=True)
        attention = choose(train.attention_backend, deterministic=True)
        reason = ""
    elif reason := "as asked" if train.deterministic == "off" else costly(train.attention_backend, device):
        tell_torch(deterministic=False)
        attention = choose(train.attention_backend)
    else:
        attention, reason = cheap_or_other(choose, train.attention_backend)

    attention.unrepeatable = reason

    return attention


def cheap_or_other(choose: Callable[..., Attention], backend: str) -> tuple[Attention, str]:
    """Return cuDNN's repeatable attention. If it cannot run, return the one of ``backend``, and the reason."""
    tell_torch(deterministic=True)
    try:
        return choose("cudnn", deterministic=True), ""
    except UserError as error:
        tell_torch(deterministic=False)
        return choose(backend), error.message


def costly(backend: str, device: torch.device) -> str:
    """Return why repeatable gradients cost 1% of a step or more, or an unknown time; empty if they do not."""
    if torch.cuda.get_device_capability(device)[0] != 9:
        return "what it costs was measured on Hopper only"

    if backend not in ("auto", "cudnn"):
        return f"{backend} would take longer"

    if find_spec(MODULE) is None:
        return f"the package '{PACKAGE}' is not installed"

    return ""

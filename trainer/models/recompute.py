"""Activation checkpointing: backward computes a block's forward pass again, in whole or in part.

Chen et al. 2016, "Training deep nets with sublinear memory cost"; in part: Korthikanti et al. 2022, section 5. The
blocks know nothing of it. Losses and gradients are those of a training without it, bit for bit where the same kernels
give the same bits twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from jobctl.jobs.catalog.schema import ActivationCheckpointing

KEPT = (
    "mm",
    "addmm",
    "_scaled_mm",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
"""Operations whose results "selective" keeps: what they cost is out of proportion to their size.

The score matrix of the plain attention formula (``bmm``) is not among them: it grows with the square of the length.
"""


def kept_operations() -> Iterator[Any]:
    """Yield those of ``KEPT`` that this torch has."""
    for name in KEPT:
        packet = getattr(torch.ops.aten, name, None)
        if packet is not None:
            yield packet.default


@functools.cache
def _kept() -> frozenset[Any]:
    return frozenset(kept_operations())


def keep_products(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Say of each operation of a block whether its result is kept for backward."""
    return CheckpointPolicy.MUST_SAVE if operation in _kept() else CheckpointPolicy.PREFER_RECOMPUTE


def recomputed(how: ActivationCheckpointing, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments)``, of which backward computes again what ``how`` does not keep."""
    if how == "none" or not torch.is_grad_enabled():
        return function(*arguments)

    options: dict[str, Any] = {}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, keep_products)

    # No model here draws random numbers in its forward pass, so that there is no state to restore.
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False, **options)


def checkpoint_blocks(blocks: nn.ModuleList, how: ActivationCheckpointing) -> None:
    """Let each block keep less for backward. It comes before compilation and sharding, which then surround it."""
    if how == "none":
        return

    for block in blocks:
        forward = block.forward

        # An attribute of the instance is what a call of the module, compiled or not, takes for its forward pass.
        block.forward = functools.partial(_forward, how, forward)


def _forward(
    how: ActivationCheckpointing,
    forward: Callable[..., Tensor],
    x: Tensor,
    document_ids: Tensor | None = None,
    cache: Any = None,
) -> Tensor:
    """A block's forward pass; with a cache nothing is trained, and the cache would be filled twice."""
    if cache is not None:
        return forward(x, document_ids, cache)

    out: Tensor = recomputed(how, forward, x, document_ids)
    return out

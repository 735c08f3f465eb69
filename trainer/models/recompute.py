"""Activation checkpointing: backward computes a block's forward pass again, the whole or a part.

The whole: Chen et al. 2016, "Training deep nets with sublinear memory cost". A part: Korthikanti et al. 2022,
section 5. The blocks do not know about it. Losses and gradients do not change, bit for bit if the kernels
repeat.
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
"""Operations whose results "selective" keeps, because they take long to compute for their size.

The score matrix of the plain attention formula (``bmm``) is not in the list: it grows with the square of the
length.
"""


def kept_operations() -> Iterator[Any]:
    """Yield the operations of ``KEPT`` that this torch has."""
    for name in KEPT:
        packet = getattr(torch.ops.aten, name, None)
        if packet is not None:
            yield packet.default


@functools.cache
def _kept() -> frozenset[Any]:
    return frozenset(kept_operations())


def keep_products(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Decide for an operation of a block if its result is kept for backward."""
    return CheckpointPolicy.MUST_SAVE if operation in _kept() else CheckpointPolicy.PREFER_RECOMPUTE


def recomputed(how: ActivationCheckpointing, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments)``. Backward computes again the results that ``how`` does not keep."""
    if how == "none" or not torch.is_grad_enabled():
        return function(*arguments)

    options: dict[str, Any] = {}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, keep_products)

    # No model here draws random numbers in its forward pass, so there is no state to restore.
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False, **options)


def checkpoint_blocks(blocks: nn.ModuleList, how: ActivationCheckpointing) -> None:
    """Let each block keep less for backward.

    Call it before compilation and sharding, which must surround it.
    """
    if how == "none":
        return

    for block in blocks:
        forward = block.forward

        # A call of the module, compiled or not, uses an attribute of the instance in place of the class's
        # forward.
        block.forward = functools.partial(_forward, how, forward)


def _forward(
    how: ActivationCheckpointing,
    forward: Callable[..., Tensor],
    x: Tensor,
    document_ids: Tensor | None = None,
    cache: Any = None,
) -> Tensor:
    """Run a block's forward pass. With a cache nothing is computed again: it would be filled twice."""
    if cache is not None:
        return forward(x, document_ids, cache)

    out: Tensor = recomputed(how, forward, x, document_ids)
    return out

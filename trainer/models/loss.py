"""Cross-entropy of the next token, without all logits in memory at once.

For a vocabulary of 151,936 and 32,768 tokens the logits alone are 10 GB in bfloat16 and 20 GB in float32.
Here they are made for one chunk of tokens at a time, together with their gradient. So nothing is computed
twice (the fused linear cross-entropy of Liger Kernel, Hsu et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from jobctl.trainer.models.products import add_product_into

IGNORED = -100
"""A target that is not scored, as in ``torch.nn.functional.cross_entropy``."""

Reduction = Literal["mean", "none"]
Kernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each token, ``[N]``, for logits ``[N, V]``.

    It is 0 for ignored targets.

    The result is in float32 or wider.
    """
    # In float32, since a sum over the vocabulary has more digits than bfloat16.
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scored = targets != IGNORED
    # An ignored target is no index, so it reads column 0 and is replaced below.
    picked = wide.gather(-1, torch.where(scored, targets, 0)[:, None])[:, 0]
    return torch.where(scored, wide.logsumexp(-1) - picked, 0.0)


def losses_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``token_losses`` and the gradient of their sum by the logits, in the dtype of the logits.

    The gradient is softmax minus one-hot. The function is pure and has static shapes, so ``torch.compile``
    makes two passes over the logits of it.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scored = targets != IGNORED
    # IGNORED is no index.
    safe = torch.where(scored, targets, 0)
    normaliser = wide.logsumexp(-1)
    losses = torch.where(scored, normaliser - wide.gather(-1, safe[:, None])[:, 0], 0.0)
    one_hot = torch.arange(logits.shape[-1], device=logits.device) == safe[:, None]
    gradient = (wide - normaliser[:, None]).exp() - one_hot.to(wide.dtype)

    return losses, (gradient * scored[:, None]).to(logits.dtype)


def losses_and_gradient_on_cpu(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Do as ``losses_and_gradient`` in two passes over the logits, the second one in place.

    It reads a value on the host, which would make a GPU wait.
    """
    scored = targets != IGNORED
    safe = torch.where(scored, targets, 0)[:, None]
    scores = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    losses = torch.where(scored, -scores.gather(-1, safe)[:, 0], 0.0)
    gradient = scores.exp_()
    # Softmax minus one-hot, without a one-hot matrix of the size of the logits.
    gradient.scatter_add_(-1, safe, gradient.new_full((1, 1), -1.0).expand_as(safe))
    # Usually all targets count, and then a pass over the logits is saved.
    if not bool(scored.all()):
        gradient *= scored[:, None]

    return losses, gradient.to(logits.dtype)


@dataclass(frozen=True)
class CrossEntropy:
    """``(hidden [..., D], head weight [V, D], targets [...]) -> loss``.

    ``chunk_elements`` limits the logits in memory (2**29: 1 GB in bfloat16, and twice that while the kernel
    computes in float32). ``kernel`` may be replaced by a compiled ``losses_and_gradient``.
    """

    chunk_elements: int = 2**29
    kernel: Kernel = losses_and_gradient

    def __call__(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, reduction: Reduction = "mean"
    ) -> Tensor:
        """Return the mean over all scored targets as a float32 scalar, or for "none" the loss of each target.

        A mean over no targets is 0.
        """
        rows = hidden.reshape(-1, hidden.shape[-1])
        labels = targets.reshape(-1)
        dtype = product_dtype(weight)
        chunk = chunk_length(len(labels), weight.shape[0], self.chunk_elements)
        if reduction == "mean" and torch.is_grad_enabled():
            arguments = (rows, weight, labels, dtype, chunk, self.kernel)
            loss: Tensor = ChunkedMean.apply(*arguments)  # type: ignore[no-untyped-call]
            return loss

        rows = rows.to(dtype)
        weight = weight.to(dtype)
        # An evaluation keeps only the losses of a chunk, never its logits.
        pairs = zip(torch.split(rows, chunk), torch.split(labels, chunk), strict=True)
        losses = torch.cat([token_losses(product(part, weight.t()), answer) for part, answer in pairs])

        return losses.view(targets.shape) if reduction == "none" else losses.sum() / scored_count(labels)


class ChunkedMean(torch.autograd.Function):
    """Mean loss over chunks. Forward makes the gradients of the sum, and backward only scales them.

    The head's gradient is summed over the chunks in float32. It is not scaled before backward, so that in
    float16 the numbers stay large enough.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        chunk: int,
        kernel: Kernel,
    ) -> Tensor:
        # A frozen head or frozen hidden states need no gradient, and so no memory for it.
        rows_wanted, weight_wanted = ctx.needs_input_grad[:2]
        ctx.dtypes = rows.dtype, weight.dtype
        rows = rows.to(dtype)
        weight = weight.to(dtype)
        wide = torch.promote_types(dtype, torch.float32)
        rows_gradient = torch.empty_like(rows) if rows_wanted else None
        # In float32, because it is a sum over many chunks.
        weight_gradient = torch.zeros_like(weight, dtype=wide) if weight_wanted else None
        total = torch.zeros((), dtype=wide, device=rows.device)

        for start in range(0, len(targets), chunk):
            part = rows[start : start + chunk]
            labels = targets[start : start + chunk]
            logits = product(part, weight.t())
            losses, gradient = kernel(logits, labels)
            total += losses.sum()
            if rows_gradient is not None:
                rows_gradient[start : start + chunk] = product(gradient, weight)

            if weight_gradient is not None:
                add_product(weight_gradient, gradient.t(), part)

        ctx.count = scored_count(targets)
        ctx.gradients = rows_gradient, weight_gradient
        mean: Tensor = total / ctx.count

        return mean

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        # A second backward pass would scale the same tensors twice, and silently.
        if ctx.gradients is None:
            raise RuntimeError("the chunked cross-entropy gives its gradients away: backward runs once")

        # Given away and not kept: they are scaled in place, and are among the largest tensors of a step.
        (rows_gradient, weight_gradient), ctx.gradients = ctx.gradients, None
        scale = upstream / ctx.count
        if rows_gradient is not None:
            rows_gradient = (rows_gradient * scale).to(ctx.dtypes[0])

        if weight_gradient is not None:
            weight_gradient = weight_gradient.mul_(scale).to(ctx.dtypes[1])

        return rows_gradient, weight_gradient, None, None, None, None


def scored_count(targets: Tensor) -> Tensor:
    """Return the number of scored targets, at least 1, so that a mean over nothing is 0."""
    return (targets != IGNORED).sum().clamp(min=1)


def product_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of autocast's matrix products if autocast is on, else that of the weight."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def product(left: Tensor, right: Tensor) -> Tensor:
    # The operands already have autocast's type, so it need not look at them again.
    with torch.autocast(left.device.type, enabled=False):
        return left @ right


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to total, in one pass if the types allow it."""
    if total.dtype is left.dtype:
        with torch.autocast(left.device.type, enabled=False):
            total.addmm_(left, right)
    else:
        add_product_into(total, left, right)


def chunk_length(tokens: int, vocab_size: int, chunk_elements: int) -> int:
    """Return the tokens of a chunk.

    There are few chunks of equal length, in multiples of 128 (the tiles of a product).
    """
    most = max(128, chunk_elements // vocab_size // 128 * 128)
    # Equal chunks instead of full ones and a rest, whose small product would waste the GPU.
    chunks = max(1, -(-tokens // most))
    return min(most, -(-tokens // chunks // 128) * 128) if chunks > 1 else max(1, tokens)


CPU_CROSS_ENTROPY = CrossEntropy(2**23, losses_and_gradient_on_cpu)
"""The loss for a CPU. A chunk's logits (32 MB in float32) have about the size of its cache."""

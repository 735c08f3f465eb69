"""Head and cross-entropy in Triton. One kernel computes the softmax and writes its gradient over the logits.

A program does one row at a time. It reads the logits twice. The second time they come from the L2 cache,
because only as many rows are in work as there are multiprocessors. Nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from jobctl.trainer.fused.add_norm import programs
from jobctl.trainer.fused.cublaslt import product
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.models.loss import IGNORED, CrossEntropy, Reduction
from jobctl.trainer.models.products import add_product_into, product_into

KEPT_BYTES = 12 * 2**30
KEPT_BYTES_OFFLOADING = 2**29
"""Bytes of logits that stay whole from forward to backward, and with ``activation_checkpointing: offload``."""
PIECES = 4
"""Pieces of a row that a program does at the same time."""
# The kernel computes in powers of two: a GPU has an instruction for them, and none for e.
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def softmax_kernel(
    logits_ptr,
    targets_ptr,
    scale_ptr,
    losses_ptr,
    rows,
    size,
    ignored,
    PIECES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Take PIECES of BLOCK columns at once.

    A lane has one column of each, so it renews its maximum only once for all.
    """
    scale = tl.load(scale_ptr)
    columns = (tl.arange(0, PIECES) * BLOCK)[:, None] + tl.arange(0, BLOCK)[None, :]
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        base = logits_ptr + tl.cast(row, tl.int64) * size
        target = tl.load(targets_ptr + row)
        scored = target != ignored
        # Read before the sums, for which all warps wait. Later a fast warp may have written the gradient over
        # it.
        picked = tl.load(base + tl.where(scored, target, 0)).to(tl.float32)
        # Not -inf: a lane without columns would compute -inf - -inf, which is not a number.
        highest = tl.full([BLOCK], -3e38, dtype=tl.float32)
        total = tl.zeros([BLOCK], dtype=tl.float32)

        for start in range(0, size, PIECES * BLOCK):
            at = start + columns
            x = tl.load(base + at, mask=at < size, other=float("-inf")).to(tl.float32) * LOG2_E
            # The largest value so far is taken off before exp2, so that it does not overflow. When a larger
            # one comes, the sum so far is scaled down to it.
            new = tl.maximum(highest, tl.max(x, 0))
            total = total * tl.exp2(highest - new) + tl.sum(tl.exp2(x - new[None, :]), 0)
            highest = new

        top = tl.max(highest, 0)
        normaliser = top + tl.log2(tl.sum(total * tl.exp2(highest - top), 0))
        # Back from a logarithm of base two to a natural one.
        tl.store(losses_ptr + row, tl.where(scored, normaliser / LOG2_E - picked, 0.0))
        # The gradient of an ignored row is written as zeros, because the products read all rows.
        factor = tl.where(scored, scale, 0.0)

        for start in range(0, size, PIECES * BLOCK):
            at = start + columns
            x = tl.load(base + at, mask=at < size, other=float("-inf")).to(tl.float32)
            gradient = (tl.exp2(x * LOG2_E - normaliser) - tl.where(at == target, 1.0, 0.0)) * factor
            tl.store(base + at, gradient.to(logits_ptr.dtype.element_ty), mask=at < size)


def plain_softmax_(logits: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """Return the reference. Arguments and result are those of ``softmax_``."""
    # As in the kernel: sums of exponentials over a vocabulary need float32.
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scored = (targets != IGNORED)[:, None]
    safe = torch.where(scored, targets[:, None], 0)
    logarithms = wide.log_softmax(-1)
    losses = torch.where(scored, -logarithms.gather(-1, safe), 0.0)[:, 0]
    gradient = logarithms.exp().scatter_add(-1, safe, -torch.ones_like(losses)[:, None])
    logits.copy_(torch.where(scored, gradient * scale, 0.0))

    return losses


def softmax_(logits: Tensor, targets: Tensor, scale: Tensor, block: int = 0) -> Tensor:
    """Return the loss of each row, float32 ``[N]``.

    Write the gradient of their sum times ``scale`` over the logits.

    The logits are ``[N, V]``. ``block`` is the width of a piece. The default was the fastest on an H200: one
    large program on each multiprocessor for long rows, which together would not fit into the L2 cache
    otherwise.
    """
    # In float32, because small differences of the loss would be lost in bfloat16.
    losses = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    rows, size = logits.shape
    long = size > 65536
    block = block or (8192 if long else 4096)
    softmax_kernel[(programs(rows, logits.device, 1 if long else 4),)](
        logits,
        targets,
        scale,
        losses,
        rows,
        size,
        IGNORED,
        PIECES=PIECES,
        BLOCK=block,
        num_warps=max(1, block // 256),
    )

    return losses


def losses_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Do as ``trainer.models.loss.losses_and_gradient``, but write the gradient over the logits."""
    return softmax_(logits, targets, torch.ones((), device=logits.device)), logits


class HeadLoss(torch.autograd.Function):
    """Mean loss of hidden states ``[N, columns]``.

    If the gradient of all logits fits into ``kept_bytes``, it is kept until backward, which then does two
    products. Otherwise forward makes both gradients chunk by chunk, and backward only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, projection: Projection, chunk: int, weight: Tensor
    ) -> Tensor:
        working = projection.working
        # A batch without any target has the loss 0, and not 0/0.
        count = (targets != IGNORED).sum().clamp(min=1)
        scale = 1.0 / count.float()
        ctx.projection = projection
        # One chunk for all tokens: then the gradient of the logits can wait for backward.
        ctx.whole = chunk >= len(targets)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        dhidden = torch.empty_like(hidden)
        dweight = None

        for start in range(0, len(targets), chunk):
            part = hidden[start : start + chunk]
            labels = targets[start : start + chunk]
            gradient = product(part, working.t())
            total += softmax_(gradient, labels, scale).sum()
            if ctx.whole:
                # Here the logits are already their gradient, which the kernel wrote over them.
                ctx.save_for_backward(hidden, gradient)
                return total * scale

            torch.mm(gradient, working, out=dhidden[start : start + chunk])
            if dweight is None:
                # The first chunk overwrites, so no kernel has to fill the sum with zeros.
                dweight = torch.empty(working.shape, dtype=torch.float32, device=hidden.device)
                product_into(dweight, gradient.t(), part)
            else:
                add_product_into(dweight, gradient.t(), part)

            # Freed before the next chunk's logits are made, so that only one chunk is in memory.
            del gradient

        ctx.save_for_backward(dhidden, dweight)

        return total * scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        projection: Projection = ctx.projection
        if ctx.whole:
            hidden, gradient = ctx.saved_tensors
            dhidden = product(gradient, projection.working) * upstream.to(hidden.dtype)
            # The factor goes to the hidden states, which have far fewer columns than the logits.
            projection.add_product(hidden * upstream.to(hidden.dtype), gradient)

            return dhidden, None, None, None, None

        dhidden, dweight = ctx.saved_tensors
        dhidden = dhidden * upstream.to(dhidden.dtype)
        dweight = dweight.mul_(upstream)
        total, fresh = projection.gradient()
        _ = total.copy_(dweight) if fresh else total.add_(dweight)
        # Only now: this call may send the gradient to the other ranks.
        projection.added()

        return dhidden, None, None, None, None


@dataclass(frozen=True)
class HeadCrossEntropy:
    """The model's ``CrossEntropy`` with the kernel above. ``kept_bytes`` limits the logits in memory."""

    projection: Projection
    kept_bytes: int = KEPT_BYTES

    def __call__(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, reduction: Reduction = "mean"
    ) -> Tensor:
        # An evaluation has no use for the gradient that the kernel writes.
        if reduction != "mean" or not torch.is_grad_enabled():
            return CrossEntropy()(hidden, self.projection.working, targets, reduction)

        rows = hidden.reshape(-1, hidden.shape[-1])
        labels = targets.reshape(-1)
        # If not all logits fit, chunks of 2 GiB are used, in multiples of 128 rows (the tiles of a product).
        bytes_of_row = self.projection.working.shape[0] * rows.element_size()
        chunk = max(128, self.kept_bytes // bytes_of_row)
        if chunk < len(labels):
            chunk = max(128, min(chunk, 2**31 // bytes_of_row) // 128 * 128)

        loss: Tensor = HeadLoss.apply(  # type: ignore[no-untyped-call]
            rows, labels, self.projection, chunk, self.projection.weights[0]
        )

        return loss

"""Head and cross-entropy: softmax and its gradient in one kernel, in place of the logits, in Triton.

A program does a row: it reads the logits twice, the second time out of the L2 cache since only as many rows are under
way as there are multiprocessors, and writes the gradient where they lay. Nothing is computed twice.
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

PIECES = 4
"""Pieces of a row that a program does at once."""
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
    """PIECES of BLOCK columns at once: a lane has a column of each, so that it renews its maximum once for all."""
    scale = tl.load(scale_ptr)
    columns = (tl.arange(0, PIECES) * BLOCK)[:, None] + tl.arange(0, BLOCK)[None, :]
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        base = logits_ptr + tl.cast(row, tl.int64) * size
        target = tl.load(targets_ptr + row)
        scored = target != ignored
        # Before the sums, which all warps wait for: later a fast warp may have put the gradient there.
        picked = tl.load(base + tl.where(scored, target, 0)).to(tl.float32)
        highest = tl.full([BLOCK], -3e38, dtype=tl.float32)
        total = tl.zeros([BLOCK], dtype=tl.float32)

        for start in range(0, size, PIECES * BLOCK):
            at = start + columns
            x = tl.load(base + at, mask=at < size, other=float("-inf")).to(tl.float32) * LOG2_E
            new = tl.maximum(highest, tl.max(x, 0))
            total = total * tl.exp2(highest - new) + tl.sum(tl.exp2(x - new[None, :]), 0)
            highest = new

        top = tl.max(highest, 0)
        normaliser = top + tl.log2(tl.sum(total * tl.exp2(highest - top), 0))
        tl.store(losses_ptr + row, tl.where(scored, normaliser / LOG2_E - picked, 0.0))
        factor = tl.where(scored, scale, 0.0)

        for start in range(0, size, PIECES * BLOCK):
            at = start + columns
            x = tl.load(base + at, mask=at < size, other=float("-inf")).to(tl.float32)
            gradient = (tl.exp2(x * LOG2_E - normaliser) - tl.where(at == target, 1.0, 0.0)) * factor
            tl.store(base + at, gradient.to(logits_ptr.dtype.element_ty), mask=at < size)


def plain_softmax_(logits: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """The reference; arguments and result as those of ``softmax_``."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scored = (targets != IGNORED)[:, None]
    safe = torch.where(scored, targets[:, None], 0)
    logarithms = wide.log_softmax(-1)
    losses = torch.where(scored, -logarithms.gather(-1, safe), 0.0)[:, 0]
    gradient = logarithms.exp().scatter_add(-1, safe, -torch.ones_like(losses)[:, None])
    logits.copy_(torch.where(scored, gradient * scale, 0.0))

    return losses


def softmax_(logits: Tensor, targets: Tensor, scale: Tensor, block: int = 0) -> Tensor:
    """Each row's loss, float32 ``[N]``; logits ``[N, V]`` become the gradient of their sum times ``scale``.

    ``block`` is the width of a piece; by default what was fastest on an H200: rows too long for the L2 cache, a row
    of each multiprocessor taken together, are read by one large program on each.
    """
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
    """What ``trainer.loss.losses_and_gradient`` gives; the gradient lies where the logits lay."""
    return softmax_(logits, targets, torch.ones((), device=logits.device)), logits


class HeadLoss(torch.autograd.Function):
    """Mean loss of hidden states ``[N, columns]``; backward has only the two products left to do, or not even those.

    Where the gradient of all logits may be kept (``kept_bytes``) it is, from forward to backward, and the head's
    gradient is one product. Else forward makes both gradients chunk by chunk and backward scales them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, projection: Projection, chunk: int, weight: Tensor
    ) -> Tensor:
        working = projection.working
        count = (targets != IGNORED).sum().clamp(min=1)
        scale = 1.0 / count.float()
        ctx.projection = projection
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
                ctx.save_for_backward(hidden, gradient)
                return total * scale

            torch.mm(gradient, working, out=dhidden[start : start + chunk])
            if dweight is None:
                dweight = torch.empty(working.shape, dtype=torch.float32, device=hidden.device)
                product_into(dweight, gradient.t(), part)
            else:
                add_product_into(dweight, gradient.t(), part)

            del gradient

        ctx.save_for_backward(dhidden, dweight)

        return total * scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        projection: Projection = ctx.projection
        if ctx.whole:
            hidden, gradient = ctx.saved_tensors
            dhidden = product(gradient, projection.working) * upstream.to(hidden.dtype)
            projection.add_product(hidden * upstream.to(hidden.dtype), gradient)

            return dhidden, None, None, None, None

        dhidden, dweight = ctx.saved_tensors
        dhidden = dhidden * upstream.to(dhidden.dtype)
        dweight = dweight.mul_(upstream)
        total, fresh = projection.gradient()
        _ = total.copy_(dweight) if fresh else total.add_(dweight)
        projection.added()

        return dhidden, None, None, None, None


@dataclass(frozen=True)
class HeadCrossEntropy:
    """``CrossEntropy``'s place in the model, by the kernel above. ``kept_bytes`` bounds the logits held at once."""

    projection: Projection
    kept_bytes: int = 12 * 2**30

    def __call__(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, reduction: Reduction = "mean"
    ) -> Tensor:
        if reduction != "mean" or not torch.is_grad_enabled():
            return CrossEntropy()(hidden, self.projection.working, targets, reduction)

        rows = hidden.reshape(-1, hidden.shape[-1])
        labels = targets.reshape(-1)
        a_row = self.projection.working.shape[0] * rows.element_size()
        chunk = max(128, self.kept_bytes // a_row)
        if chunk < len(labels):
            chunk = max(128, min(chunk, 2**31 // a_row) // 128 * 128)

        loss: Tensor = HeadLoss.apply(  # type: ignore[no-untyped-call]
            rows, labels, self.projection, chunk, self.projection.weights[0]
        )

        return loss

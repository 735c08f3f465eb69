"""AdamW in one pass: each state read and written once, clipping applied on the way, the working copy left behind.

Loshchilov and Hutter 2019, algorithm 2, in the form and with the state of ``torch.optim.AdamW``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from jobctl.trainer.distributed import local
from jobctl.trainer.fused.linear import Projection

BLOCK = 4096


@triton.jit
def adamw_kernel(
    weight_ptr, grad_ptr, first_ptr, second_ptr, copy_ptr, step_ptr, factor_ptr, skipped_ptr,
    rate, beta1, beta2, log_beta1, log_beta2, eps, decay, size, HAS_COPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(skipped_ptr) == 0.0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        step = tl.load(step_ptr)
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32) * tl.load(factor_ptr)
        weight = tl.load(weight_ptr + at, mask=inside, other=0.0) * (1.0 - rate * decay)
        first = tl.load(first_ptr + at, mask=inside, other=0.0)
        second = tl.load(second_ptr + at, mask=inside, other=0.0)
        first += (1.0 - beta1) * (grad - first)
        second = beta2 * second + (1.0 - beta2) * grad * grad
        correction1 = 1.0 - tl.exp(step * log_beta1)
        correction2 = 1.0 - tl.exp(step * log_beta2)
        weight -= (rate / correction1) * first / (tl.sqrt(second / correction2) + eps)
        tl.store(weight_ptr + at, weight, mask=inside)
        tl.store(first_ptr + at, first, mask=inside)
        tl.store(second_ptr + at, second, mask=inside)
        if HAS_COPY:
            tl.store(copy_ptr + at, weight.to(copy_ptr.dtype.element_ty), mask=inside)


class FusedAdamW(torch.optim.AdamW):
    """``torch.optim.AdamW`` with the update above.

    Before ``step`` set ``factor``, which gradients are multiplied by, and ``found_inf`` (1.0: leave everything as
    it is), both float32 scalars on the device. Of a sharded weight this rank's rows are updated.
    """

    def __init__(self, groups: list[dict[str, Any]], projections: list[Projection], **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self.copies: dict[Tensor, Tensor] = {
            weight: own for p in projections for weight, own in zip(p.weights, p.own, strict=True)
        }
        device = groups[0]["params"][0].device
        self.factor = torch.ones((), device=device)
        self.found_inf = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {
                        "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                        "exp_avg": torch.zeros_like(weight),
                        "exp_avg_sq": torch.zeros_like(weight),
                    }
            if weights:
                steps, taken = [self.state[weight]["step"] for weight in weights], 1.0 - self.found_inf
                torch._foreach_add_(steps, [taken] * len(steps))  # a bare tensor would be read on the host
            for weight in weights:
                self.update(weight, group)

    def update(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        state, copy = self.state[weight], self.copies.get(weight)
        assert weight.grad is not None
        own, gradient = local(weight), local(weight.grad)
        beta1, beta2 = group["betas"]
        adamw_kernel[(triton.cdiv(own.numel(), BLOCK),)](
            own, gradient, local(state["exp_avg"]), local(state["exp_avg_sq"]), own if copy is None else copy,
            state["step"], self.factor, self.found_inf, float(group["lr"]), beta1, beta2,
            math.log(beta1), math.log(beta2),
            group["eps"], group["weight_decay"], own.numel(), HAS_COPY=copy is not None, BLOCK=BLOCK, num_warps=8,
        )  # fmt: skip

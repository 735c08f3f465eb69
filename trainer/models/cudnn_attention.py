"""cuDNN's attention with a backward pass that repeats bit for bit.

In torch's form of cuDNN's backward kernel, blocks of keys add to the queries' gradient when they finish. The
order of these sums differs from run to run. torch has no switch for it. cuDNN has one, which its own Python
interface (the package ``nvidia-cudnn-frontend``) can set. On Hopper cuDNN then writes the gradient of all
scores to memory, 2 bytes each, and one product makes the queries' gradient of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jobctl.jobs.core.errors import UserError

MODULE = "cudnn"
PACKAGE = "nvidia-cudnn-frontend"
NAMES = {torch.bfloat16: "BFLOAT16", torch.float16: "HALF"}
"""cuDNN's names of the types for which it has attention."""
MOST_WORKSPACE = 5 * 2**28
"""The most bytes of a workspace.

Larger gradients are computed in parts: half the batch or half the heads at a time.
"""
HIDDEN = -65504.0
"""The number that is added to the score of a hidden key. It is float16's lowest number."""


@dataclass(frozen=True)
class Layout:
    """Shape and strides of a tensor. cuDNN makes its plan for them."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype)


@dataclass(frozen=True)
class Problem:
    """The tensors of a backward pass. The last three are its results.

    q, out, dout and dq are ``[B, H, T, D]``, k, v, dk and dv are ``[B, KV, T, D]``, with any strides. stats
    is the log-sum-exp of each row, float32 ``[B, H, T, 1]``. bias ``[B, 1, T, T]`` was added to the scores;
    None means causal.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    dout: Tensor
    stats: Tensor
    bias: Tensor | None
    dq: Tensor
    dk: Tensor
    dv: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        every = (
            self.q,
            self.k,
            self.v,
            self.out,
            self.dout,
            self.stats,
            self.bias,
            self.dq,
            self.dk,
            self.dv,
        )

        return [tensor for tensor in every if tensor is not None]

    def halves(self) -> list[Problem]:
        """Divide the problem into two, by sequences or by key heads.

        Return nothing if there is only one of both.
        """
        # Sequences share nothing. Key heads do not either, if their queries go with them.
        dimension = 0 if self.q.shape[0] > 1 else 1
        count = self.k.shape[dimension]
        if count == 1:
            return []

        def parts(tensor: Tensor) -> list[Tensor]:
            # Counted in groups, so that the queries of a key head stay with it.
            middle = tensor.shape[dimension] // count * (count // 2)
            return list(tensor.tensor_split([middle], dimension))

        q, k, v, out, dout, stats = map(parts, (self.q, self.k, self.v, self.out, self.dout, self.stats))
        dq, dk, dv = map(parts, (self.dq, self.dk, self.dv))
        bias: list[Tensor] | list[None] = [None, None]
        if self.bias is not None:
            # A bias has one head for all, so halves by heads share it.
            bias = parts(self.bias) if dimension == 0 else [self.bias, self.bias]

        return [
            Problem(q[i], k[i], v[i], out[i], dout[i], stats[i], bias[i], dq[i], dk[i], dv[i])
            for i in range(2)
        ]


def interface() -> Any:
    """Return cuDNN's Python interface. Raises UserError if it is not installed."""
    try:
        return import_module(MODULE)
    except ImportError as error:
        raise UserError(f"the package '{PACKAGE}' cannot be imported ({error})") from error


@functools.cache
def handle(device: torch.device) -> Any:
    # A handle belongs to the device that is current when it is made.
    with torch.cuda.device(device):
        return interface().create_handle()


class Plan:
    """cuDNN's plan for problems of these layouts. Raises cuDNN's error if it has none."""

    def __init__(self, layouts: Sequence[Layout], device: torch.device) -> None:
        cudnn = interface()
        self.device = device
        self.graph = cudnn.pygraph(
            io_data_type=getattr(cudnn.data_type, NAMES[layouts[0].dtype]),
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
            handle=handle(device),
        )

        *given, dq, dk, dv = layouts
        inputs = [
            self.graph.tensor(dim=list(layout.shape), stride=list(layout.stride), data_type=layout.dtype)
            for layout in given
        ]
        q, k, v, out, dout, stats, *bias = inputs
        outputs = self.graph.sdpa_backward(
            q=q,
            k=k,
            v=v,
            o=out,
            dO=dout,
            stats=stats,
            attn_scale=layouts[0].shape[-1] ** -0.5,
            bias=bias[0] if bias else None,
            use_causal_mask=not bias,
            use_deterministic_algorithm=True,
        )

        for output, layout in zip(outputs, (dq, dk, dv), strict=True):
            output.set_output(True).set_dim(list(layout.shape)).set_stride(list(layout.stride))
            output.set_data_type(layout.dtype)

        self.tensors = [*inputs, *outputs]
        # cuDNN's order of building: each call needs the result of the one before.
        self.graph.validate()
        self.graph.build_operation_graph()
        self.graph.create_execution_plans([cudnn.heur_mode.A])
        self.graph.check_support()
        self.graph.build_plans()
        self.workspace_bytes: int = self.graph.get_workspace_size()

    def run(self, tensors: Sequence[Tensor]) -> None:
        """Fill the last three of ``tensors``, on torch's current stream."""
        # From torch's allocator at each run, so that other kernels use the memory in between.
        workspace = torch.empty(self.workspace_bytes, dtype=torch.uint8, device=self.device)
        stream = torch.cuda.current_stream(self.device).cuda_stream
        # torch may be on another stream than when the handle was made.
        interface().set_stream(handle=handle(self.device), stream=stream)
        self.graph.execute(
            dict(zip(self.tensors, tensors, strict=True)), workspace, handle=handle(self.device)
        )


@functools.cache
def plan_for(layouts: tuple[Layout, ...], device: torch.device) -> Plan:
    return Plan(layouts, device)


def solve(problem: Problem) -> None:
    """Fill the problem's gradients. If the whole needs more than MOST_WORKSPACE, do it in parts."""
    # The plan is kept by layouts, because making one takes much longer than running it.
    tensors = problem.tensors
    plan = plan_for(tuple(map(Layout.of, tensors)), problem.q.device)
    halves = problem.halves() if plan.workspace_bytes > MOST_WORKSPACE else []
    if not halves:
        plan.run(tensors)

    for half in halves:
        solve(half)


class CudnnAttention(torch.autograd.Function):
    """Map q ``[B, H, T, D]``, k and v ``[B, KV, T, D]`` to ``[B, H, T, D]``.

    The mask is ``[B, 1, T, T]``; None means causal.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        out: Tensor
        stats: Tensor
        # torch's own forward pass repeats bit for bit. Only its backward pass does not.
        out, stats, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
            q, k, v, bias_of(mask, q.dtype), True, 0.0, mask is None
        )
        ctx.save_for_backward(q, k, v, out, stats, mask)

        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, stats, mask = ctx.saved_tensors
        stats = stats.view(*q.shape[:3], 1)
        bias = bias_of(mask, q.dtype)
        dq, dk, dv = (torch.empty_like(tensor) for tensor in (q, k, v))
        solve(Problem(q, k, v, out, dout, stats, bias, dq, dk, dv))
        return dq, dk, dv, None


def bias_of(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return a bias for the scores: HIDDEN if ``mask`` is False, 0 if it is True."""
    if mask is None:
        return None
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, HIDDEN)


@dataclass(frozen=True)
class RepeatableCudnn:
    """A kernel for ``SdpaAttention`` instead of ``SdpaKernel``.

    A single query is never trained, so torch computes it.
    """

    label: str = "cudnn, repeatable"

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        q = q.transpose(1, 2)
        k = k.transpose(1, 2)
        v = v.transpose(1, 2)
        if is_causal or mask is not None:
            if mask is not None:
                # Expanded to the shape that the plan is made for, without a copy.
                mask = mask.expand(q.shape[0], 1, q.shape[2], k.shape[2])

            out: Tensor = CudnnAttention.apply(q, k, v, mask)  # type: ignore[no-untyped-call]
        else:
            out = F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])

        return out.transpose(1, 2)

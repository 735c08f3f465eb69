"""A micro-step as a CUDA graph (tier 3): thousands of launches become one.

NVIDIA CUDA programming guide, section "CUDA Graphs".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jobctl.jobs.catalog.schema import TrainConfig

WARM_STEPS = 2
"""Steps without graphs: they compile kernels, choose algorithms and measure float8's first scales."""


def obstacle(train: TrainConfig, fused: bool, sharding: str) -> str:
    """Return the reason why steps run without graphs; empty if they use graphs."""
    if not train.use_cuda_graphs:
        return "not asked for"

    if not fused:
        return "they need the fused kernels"

    if train.activation_checkpointing == "offload":
        return "the copies to the host run beside them"

    if sharding == "fsdp":
        return "the weights that fsdp gathers depend on the step before"

    return ""


class MicroStepGraph:
    """``micro_step`` for tokens of one shape, captured once: int64 ``[B, T + 1]`` in, its result out.

    A replay reads and writes the same memory each time, so every parameter's ``.grad`` must be there when the graph is
    made and remain the tensor that it is. Graphs that share a ``pool`` share the memory of their activations.
    """

    def __init__(
        self,
        micro_step: Callable[[Tensor], Tensor],
        tokens: Tensor,
        device: torch.device,
        pool: object = None,
    ) -> None:
        self.tokens = tokens.to(device)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads (pinned memory, checkpoints) may call CUDA while this one captures.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):  # type: ignore[arg-type]
            self.result = micro_step(self.tokens)

    @property
    def pool(self) -> object:
        return self.graph.pool()

    def __call__(self, tokens: Tensor) -> Tensor:
        # Into the memory that the graph has captured: it reads nothing else.
        self.tokens.copy_(tokens, non_blocking=True)
        self.graph.replay()
        return self.result

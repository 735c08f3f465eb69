"""Gradient norms, by tensor and by layer, and clipping: all on the device, over any sharding, without a wait."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from jobctl.trainer.distributed import World, local

BLOCK = re.compile(r"blocks\.\d+")


class Gradients:
    """The gradients of a model's parameters, seen as one vector; of those that are sharded each rank has a part."""

    def __init__(self, parameters: dict[str, nn.Parameter], world: World) -> None:
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.world = world
        sharded = [isinstance(parameter, DTensor) for parameter in self.parameters]
        self.sharded = any(sharded)
        # In a sum over the ranks each square counts once.
        self.counted = torch.tensor([1.0 if s else 1.0 / world.size for s in sharded], device=world.device)

    def local_gradients(self) -> list[torch.Tensor]:
        return [local(p.grad) for p in self.parameters if p.grad is not None]

    def measure(
        self, loss: torch.Tensor, loss_scale: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean loss over the ranks, squared norm of each parameter's whole gradient, shape [parameters]).

        One small all-reduce for both. Gradients are taken to be ``loss_scale`` times too large.
        """
        grads = self.local_gradients()
        if len(grads) != len(self.parameters):
            missing = [n for n, p in zip(self.names, self.parameters, strict=True) if p.grad is None]
            raise RuntimeError(f"no gradient reached {', '.join(missing)}")

        # Squares of float16 would overflow, so the norms are float32.
        norms = torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32))
        if loss_scale is not None:
            norms = norms / loss_scale

        squares = norms.square()
        if self.world.size == 1:
            return loss, squares

        # With whole gradients all ranks have the same squares, and exchange the loss alone.
        counted = squares * self.counted if self.sharded else squares[:0]
        message = torch.cat([(loss / self.world.size).reshape(1), counted])
        dist.all_reduce(message)

        return message[0], message[1:] if self.sharded else squares

    def clear(self) -> None:
        """Free all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def by_layer(self, squares: Sequence[float]) -> dict[str, float]:
        """Norm of each block's gradient, and of each tensor outside the blocks."""
        totals: dict[str, float] = {}
        for name, square in zip(self.names, squares, strict=True):
            found = BLOCK.match(name)
            layer = found[0] if found else name
            totals[layer] = totals.get(layer, 0.0) + square

        return {layer: total**0.5 for layer, total in totals.items()}


def clip_factor(norm: torch.Tensor, limit: float) -> torch.Tensor:
    """Return the factor that limits the gradients' norm to ``limit`` (Pascanu et al., 2013)."""
    # The small number keeps a norm of 0 from dividing by zero. It is that of torch's clipping.
    return (limit / (norm + 1e-6)).clamp(max=1.0)

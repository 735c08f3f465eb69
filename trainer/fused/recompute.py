"""Choose what the fused blocks keep for backward with ``activation_checkpointing: selective`` or ``offload``.

Normalised inputs, the result of the activation, and rotated queries and keys are a third of what a block
keeps. Each can be made in one pass over memory from a tensor that is kept anyway. So backward makes them
again when it needs them (Megatron-Core discards such outputs in the same places).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import TracebackType

import torch
from torch import Tensor


class Remade:
    """Tensors that one call of ``make`` returns.

    It is called once for all of them, if they are taken in turn.
    """

    def __init__(self, make: Callable[[], Sequence[Tensor]]) -> None:
        self.make = make
        self.waiting: dict[int, Tensor] = {}

    def take(self, index: int) -> Tensor:
        """Return tensor ``index``. The others wait until they are taken, and are then released."""
        if index not in self.waiting:
            self.waiting = dict(enumerate(self.make()))
        return self.waiting.pop(index)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to make a saved tensor again: the number among the remade ones, and the shape of the view."""

    remade: Remade
    index: int
    size: torch.Size
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        return self.remade.take(self.index).as_strided(self.size, self.stride)


class Discarding:
    """A context for one block's forward pass. ``discard`` names the tensors that backward must make again.

    autograd offers each tensor that an operation saves. A tensor with the address and the number of elements
    of a discarded one is replaced by its recipe. Any other tensor is kept.
    """

    def __init__(self) -> None:
        self._recipes: dict[tuple[int, int], tuple[Remade, int]] = {}
        self._alive: list[Tensor] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> Discarding:
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, traceback)

        # Until here the discarded tensors were alive. Otherwise a new tensor could get their address, and
        # would be taken for one of them.
        self._recipes.clear()
        self._alive.clear()

    def discard(self, make: Callable[[], Sequence[Tensor]], *tensors: Tensor) -> None:
        """Let backward call ``make`` for ``tensors``.

        They are contiguous, and in the order of its results.
        """
        remade = Remade(make)
        for index, tensor in enumerate(tensors):
            self._recipes[tensor.data_ptr(), tensor.numel()] = remade, index
            self._alive.append(tensor.detach())

    def _pack(self, tensor: Tensor) -> Tensor | Recipe:
        known = self._recipes.get((tensor.data_ptr(), tensor.numel()))
        if known is None:
            return tensor
        return Recipe(*known, tensor.shape, tensor.stride())

    @staticmethod
    def _unpack(kept: Tensor | Recipe) -> Tensor:
        return kept.tensor() if isinstance(kept, Recipe) else kept

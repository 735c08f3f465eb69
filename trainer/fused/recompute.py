"""What the fused blocks keep for backward under ``activation_checkpointing: selective``.

A normalised input, the activation's result, and rotated queries and keys take a third of what a block keeps, and each
is one pass over memory away from a tensor that is kept anyway. Backward makes them again when it asks for them
(Megatron-Core discards such outputs in the same places).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import TracebackType

import torch
from torch import Tensor


class Remade:
    """Tensors that one call of ``make`` gives; it is called once for all that are asked for in turn."""

    def __init__(self, make: Callable[[], Sequence[Tensor]]) -> None:
        self.make = make
        self.waiting: dict[int, Tensor] = {}

    def take(self, index: int) -> Tensor:
        """Return tensor ``index``. Those made with it wait for their turn, and are held no longer."""
        if index not in self.waiting:
            self.waiting = dict(enumerate(self.make()))
        return self.waiting.pop(index)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to get a saved tensor again: which of the remade ones, and how it was looked at."""

    remade: Remade
    index: int
    size: torch.Size
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        return self.remade.take(self.index).as_strided(self.size, self.stride)


class Discarding:
    """A context for one block's forward pass, in which ``discard`` says what backward is to make again.

    autograd offers each tensor that an operation saves. One that begins where a discarded one begins, and has as many
    elements, is replaced by its recipe; anything else is kept.
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

        # Until here their memory could not become another tensor's, which would be taken for them.
        self._recipes.clear()
        self._alive.clear()

    def discard(self, make: Callable[[], Sequence[Tensor]], *tensors: Tensor) -> None:
        """Let backward call ``make`` for ``tensors``, contiguous ones, in the order that it returns them in."""
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

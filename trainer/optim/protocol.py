"""The interface between an optimiser and the training step."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Optimizer(Protocol):
    """Update the parameters of a model from their gradients.

    Its state exists in full as soon as the optimiser is made, so that a checkpoint can be loaded into
    it before the first step.
    """

    @property
    def leaves_copies(self) -> bool:
        """Whether ``step`` leaves the fused working copies up to date; else the stepper renews them."""

    def step(self, factor: Tensor, skip: Tensor, rate: float) -> None:
        """Update every parameter that has a gradient, with learning rate ``rate``.

        ``factor`` (float32 scalar) multiplies the gradients; ``skip`` (bool scalar) leaves parameters and
        state as they are. Both may still be on their way through the device's queue.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the live state by name, ``PARAMETER.KEY``; the same names on every rank and layout."""

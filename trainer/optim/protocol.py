"""The interface between an optimiser and the training step."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Optimizer(Protocol):
    """Update the parameters of a model from their gradients.

    The whole state exists as soon as the optimiser is made, so that a checkpoint can be loaded into it before
    the first step.
    """

    @property
    def updates_copies(self) -> bool:
        """True if ``step`` updates the fused working copies. Otherwise the stepper renews them."""

    def step(self, factor: Tensor, skip: Tensor, rate: float) -> None:
        """Update every parameter that has a gradient, with learning rate ``rate``.

        ``factor`` (float32 scalar) multiplies the gradients. ``skip`` (bool scalar) leaves parameters and
        state as they are. The device may still have to compute both, so do not read them on the host.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the live state by name, ``PARAMETER.KEY``.

        The names are the same on every rank and in every layout.
        """

"""Divide the parameters into those that decay and those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

Parameters = Mapping[str, nn.Parameter]
"""Parameters by their names in the model file."""


def decay_groups(parameters: Parameters) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Return the trained parameters by name: those that decay, and those that do not.

    Every matrix decays, embeddings included. Gains and biases do not. This is nanoGPT's rule
    (``configure_optimizers``).
    """
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    decayed = {name: parameter for name, parameter in trained.items() if parameter.ndim >= 2}
    exempt = {name: parameter for name, parameter in trained.items() if name not in decayed}
    return decayed, exempt


def parameter_groups(parameters: Parameters, weight_decay: float) -> list[dict[str, Any]]:
    """Return the non-empty groups in torch's form: "decay", then "no_decay"."""
    decayed, exempt = decay_groups(parameters)
    groups: list[dict[str, Any]] = [
        {"name": "decay", "params": list(decayed.values()), "weight_decay": weight_decay},
        {"name": "no_decay", "params": list(exempt.values()), "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]

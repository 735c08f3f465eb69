"""The interface between a family and ``transformers``: the names of its configuration and weights there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError

Weights = dict[str, Tensor]

NOT_SUPPORTED_OTHERWISE: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}
"""Keys of a ``config.json`` with the values that our families support."""


class HfMapping(Protocol):
    """A family's counterpart in ``transformers``."""

    @property
    def model_type(self) -> str:
        """``model_type`` in ``config.json``."""

    @property
    def class_name(self) -> str:
        """The class with a language-model head, for ``architectures`` in ``config.json``."""

    def config_values(self, config: ModelConfig) -> dict[str, Any]:
        """Return the family's own keys of ``config.json``. Raises UserError for an impossible shape."""

    def model_config(self, architecture: str, values: Mapping[str, Any]) -> ModelConfig:
        """Return our configuration. Raises UserError for a key that our model does not support."""

    def to_hf(self, config: ModelConfig, state: Weights) -> Weights:
        """Return our state dict under their names and in their shapes."""

    def from_hf(self, state: Weights) -> Weights:
        """Return their state dict under our names and in our shapes."""


def required(values: Mapping[str, Any], key: str) -> Any:
    """Return a value that must be given.

    Raises UserError if it is missing, because a shape must not be guessed.
    """
    if values.get(key) is None:
        raise UserError(f"config.json: '{key}' is missing", hint="save the model with a recent transformers")
    return values[key]


def rope_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the RoPE section by its name in transformers 5 or 4, or an empty one."""
    section: Mapping[str, Any] = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return section


def refuse_unsupported(values: Mapping[str, Any], activation_key: str, activations: Sequence[str]) -> None:
    """Raise UserError for the first key whose value our models do not support."""
    allowed = {activation_key: tuple(activations)} | NOT_SUPPORTED_OTHERWISE
    for name, supported in allowed.items():
        value = values.get(name)
        if value is not None and value not in supported:
            raise UserError(
                f"config.json: {name}={value} is not supported", hint=f"it must be {supported[0]}"
            )

    if values.get("quantization_config") is not None:
        raise UserError("config.json: the weights are quantized", hint="load the unquantized model")

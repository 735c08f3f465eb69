"""Build the model of a configuration, with new weights or with given ones."""

from __future__ import annotations

import torch

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.models.registry import family_of


def build_model(config: ModelConfig, attention: Attention) -> Decoder:
    """Build the model in float32 on torch's current device, from torch's current random state.

    Under ``torch.device("meta")`` nothing is computed. After ``to_empty``, ``model.init_weights()`` makes the
    same weights from the same random state. Raises UserError for an unknown family.
    """
    # A new tensor shows the device. In torch 2.6 get_default_device does not see the context.
    device = torch.empty(0).device
    family = family_of(config.architecture)

    # torch initialises each layer by itself, which we replace. On the meta device that costs no time and
    # draws no random numbers.
    with torch.device("meta"):
        model = family.build(config, attention).float()

    if device.type != "meta":
        model.to_empty(device=device)
        model.init_weights()

    return model


def model_of_weights(
    config: ModelConfig,
    state: dict[str, torch.Tensor],
    attention: Attention,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Decoder:
    """Build the model of a state dict for use without training, with parameters in ``dtype``."""
    with torch.device("meta"):
        model = build_model(config, attention)

    weights = {name: tensor.to(device, dtype) for name, tensor in state.items()}
    model.load_state_dict(weights, assign=True)

    # The position tables are not in the state dict, so they are still on the meta device.
    if model.rotary is not None:
        model.rotary.to_empty(device=device)
        model.rotary.fill_tables()

    return model.requires_grad_(False).eval()

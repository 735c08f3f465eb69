"""The architectures, one file each. None knows of parallelism, compilation or autocast."""

from __future__ import annotations

import torch

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.decoder import Decoder
from jobctl.trainer.models.gpt2 import GPT2
from jobctl.trainer.models.llama import Llama
from jobctl.trainer.models.qwen3 import Qwen3

ARCHITECTURES: dict[str, type[Decoder]] = {"gpt2": GPT2, "llama": Llama, "qwen3": Qwen3}


def build_model(config: ModelConfig, attention: Attention) -> Decoder:
    """The model in float32 on torch's current device, initialised from torch's current random state.

    Under ``torch.device("meta")`` nothing is computed: after ``to_empty``, ``model.init_weights()`` gives
    the same weights from the same random state.
    """
    wanted = torch.empty(0).device  # torch 2.6's get_default_device does not see the context
    with torch.device("meta"):  # so that torch's own initialisation neither costs time nor draws numbers
        model = ARCHITECTURES[config.architecture](config, attention).float()
    if wanted.type != "meta":
        model.to_empty(device=wanted)
        model.init_weights()
    return model


def model_of_weights(
    config: ModelConfig,
    state: dict[str, torch.Tensor],
    attention: Attention,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Decoder:
    """The model of a state dict, to be used and not trained; its parameters in ``dtype``."""
    with torch.device("meta"):
        model = build_model(config, attention)
    model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in state.items()}, assign=True)
    if model.rotary is not None:
        model.rotary.to_empty(device=device)
        model.rotary.fill_tables()
    return model.requires_grad_(False).eval()

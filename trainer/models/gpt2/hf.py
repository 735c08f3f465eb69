"""GPT-2 in ``transformers``: q, k and v are one matrix there, and its linear layers are transposed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.hf_mapping import Weights, refuse_unsupported

BLOCK_NAMES = {
    "input_layernorm": "ln_1",
    "self_attn.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
"""Ours -> theirs inside a block, but for q, k and v, which are their ``attn.c_attn``."""

ROOT_NAMES = {"embed_tokens": "wte", "embed_positions": "wpe", "norm": "ln_f"}
"""Ours -> theirs outside the blocks."""

MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
"""Buffers that old GPT-2 files hold among the weights."""


class GPT2Mapping:
    """The mapping. Our GPT-2 has no biases: theirs are written as zeros, and must be zeros to be read."""

    model_type = "gpt2"
    class_name = "GPT2LMHeadModel"

    def config_values(self, config: ModelConfig) -> dict[str, Any]:
        """Return GPT-2's keys. Raises UserError for a shape that theirs cannot have."""
        refuse_shape(config)
        return {
            "n_embd": config.hidden_size,
            "n_inner": config.intermediate_size,
            "n_layer": config.num_hidden_layers,
            "n_head": config.num_attention_heads,
            "n_positions": config.max_position_embeddings,
            "layer_norm_epsilon": config.norm_eps,
            "activation_function": "gelu_new",
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }

    def model_config(self, architecture: str, values: Mapping[str, Any]) -> ModelConfig:
        """Return our configuration of GPT-2's keys. Raises UserError for an unsupported one."""
        refuse_unsupported(values, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
        width = values.get("n_embd", 768)
        heads = values.get("n_head", 12)

        return ModelConfig(
            architecture=architecture,
            vocab_size=values.get("vocab_size", 50257),
            hidden_size=width,
            intermediate_size=values.get("n_inner") or 4 * width,
            num_hidden_layers=values.get("n_layer", 12),
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=width // heads,
            max_position_embeddings=values.get("n_positions", 1024),
            norm_eps=values.get("layer_norm_epsilon", 1e-5),
            tie_word_embeddings=values.get("tie_word_embeddings", True),
            initializer_range=values.get("initializer_range", 0.02),
        )

    def to_hf(self, config: ModelConfig, state: Weights) -> Weights:
        """Return our weights under their names, matrices transposed (``Conv1D``), biases zero."""
        theirs: Weights = {}
        for ours, name in ROOT_NAMES.items():
            put(theirs, f"transformer.{name}", state[f"{ours}.weight"], biased=ours == "norm")

        if not config.tie_word_embeddings:
            put(theirs, "lm_head", state["lm_head.weight"], biased=False)

        for index in range(config.num_hidden_layers):
            block = f"blocks.{index}."
            layer = f"transformer.h.{index}."
            for ours, name in BLOCK_NAMES.items():
                weight = state[f"{block}{ours}.weight"]
                put(theirs, layer + name, weight.t() if weight.ndim == 2 else weight)

            parts = [state[f"{block}self_attn.{letter}_proj.weight"] for letter in "qkv"]
            put(theirs, layer + "attn.c_attn", torch.cat(parts).t())

        return theirs

    def from_hf(self, state: Weights) -> Weights:
        """Return their weights under our names. Raises UserError where a bias is not zero."""
        ours: Weights = {}
        for full_name, tensor in state.items():
            name = full_name.removeprefix("transformer.")
            if MASKS.fullmatch(name):
                continue

            if name.endswith(".bias"):
                refuse_bias(full_name, tensor)
                continue

            ours.update(our_weights(name.removesuffix(".weight"), tensor))

        return ours


def refuse_shape(config: ModelConfig) -> None:
    """Raise UserError for a shape that GPT-2 of ``transformers`` cannot have."""
    width = config.num_attention_heads * config.head_dim
    if width != config.hidden_size or config.num_key_value_heads != config.num_attention_heads:
        raise UserError(
            f"transformers' GPT-2 has none of width {config.hidden_size} with {config.num_attention_heads} "
            f"heads of {config.head_dim} and {config.num_key_value_heads} key heads",
            hint="it needs heads · head_dim = width, and as many key heads as heads",
        )


def refuse_bias(name: str, bias: Tensor) -> None:
    """Raise UserError for a bias that our model cannot hold."""
    if bias.any():
        raise UserError(f"{name} is not zero, and our GPT-2 has no biases", hint="it cannot be loaded")


def put(theirs: Weights, name: str, weight: Tensor, biased: bool = True) -> None:
    """Add a weight of theirs, and its bias of zeros."""
    theirs[f"{name}.weight"] = weight.contiguous()
    if biased:
        theirs[f"{name}.bias"] = torch.zeros(weight.shape[-1], dtype=weight.dtype)


def our_weights(stem: str, tensor: Tensor) -> Weights:
    """Return our weights of one of theirs: three of the joined q, k and v, one of any other."""
    match = re.fullmatch(r"h\.(\d+)\.(.+)", stem)
    if match is None:
        root = {theirs: name for name, theirs in ROOT_NAMES.items()}
        return {f"{root.get(stem, stem)}.weight": tensor}

    block = f"blocks.{match[1]}."
    if match[2] == "attn.c_attn":
        parts = zip("qkv", tensor.t().chunk(3), strict=True)
        return {f"{block}self_attn.{letter}_proj.weight": part.contiguous() for letter, part in parts}

    inside = {theirs: name for name, theirs in BLOCK_NAMES.items()}
    weight = tensor.t().contiguous() if tensor.ndim == 2 else tensor

    return {f"{block}{inside.get(match[2], match[2])}.weight": weight}

"""GPT-2 in ``transformers``. There q, k and v are one matrix, and the linear layers are transposed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
"""Our names and theirs inside a block. Our q, k and v are missing: they are their ``attn.c_attn``."""

ROOT_NAMES = {"embed_tokens": "wte", "embed_positions": "wpe", "norm": "ln_f"}
"""Our names and theirs outside the blocks."""

MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
"""Buffers among the weights of old GPT-2 files. They are masks and no weights."""


class GPT2Mapping:
    """The mapping. Their model always has biases. If ours has none, they are zeros."""

    model_type = "gpt2"
    class_name = "GPT2LMHeadModel"

    def config_values(self, config: ModelConfig) -> dict[str, Any]:
        """Return GPT-2's keys. Raises UserError for a shape that their model cannot have."""
        refuse_shape(config)
        return {
            "n_embd": config.hidden_size,
            "n_inner": config.intermediate_size,
            "n_layer": config.num_hidden_layers,
            "n_head": config.num_attention_heads,
            "n_positions": config.max_position_embeddings,
            "layer_norm_epsilon": config.norm_eps,
            # Their gelu_new is the tanh form, which our model computes.
            "activation_function": "gelu_new",
            # Our models have no dropout.
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }

    def model_config(self, architecture: str, values: Mapping[str, Any]) -> ModelConfig:
        """Return our configuration for GPT-2's keys. Raises UserError for an unsupported one."""
        refuse_unsupported(values, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
        width = values.get("n_embd", 768)
        heads = values.get("n_head", 12)

        # Old files leave out keys that have their defaults, so the defaults here are those of transformers.
        return ModelConfig(
            architecture=architecture,
            vocab_size=values.get("vocab_size", 50257),
            hidden_size=width,
            # transformers' default is null, which stands for four times the width.
            intermediate_size=values.get("n_inner") or 4 * width,
            num_hidden_layers=values.get("n_layer", 12),
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=width // heads,
            max_position_embeddings=values.get("n_positions", 1024),
            norm_eps=values.get("layer_norm_epsilon", 1e-5),
            tie_word_embeddings=values.get("tie_word_embeddings", True),
            initializer_range=values.get("initializer_range", 0.02),
            bias=True,
        )

    def to_hf(self, config: ModelConfig, state: Weights) -> Weights:
        """Return our weights under their names.

        Matrices are transposed, because their layers are ``Conv1D``.
        """
        theirs: Weights = {}
        for ours, name in ROOT_NAMES.items():
            theirs[f"transformer.{name}.weight"] = state[f"{ours}.weight"].contiguous()

        put_bias(theirs, "transformer.ln_f", [state.get("norm.bias")], [state["norm.weight"]])
        if not config.tie_word_embeddings:
            theirs["lm_head.weight"] = state["lm_head.weight"].contiguous()

        for index in range(config.num_hidden_layers):
            block = f"blocks.{index}."
            layer = f"transformer.h.{index}."
            for ours, name in BLOCK_NAMES.items():
                weight = state[f"{block}{ours}.weight"]
                theirs[f"{layer}{name}.weight"] = (weight.t() if weight.ndim == 2 else weight).contiguous()
                put_bias(theirs, layer + name, [state.get(f"{block}{ours}.bias")], [weight])

            stems = [f"{block}self_attn.{letter}_proj" for letter in "qkv"]
            parts = [state[f"{stem}.weight"] for stem in stems]
            # Their one matrix has q, k and v behind each other, in this order.
            theirs[f"{layer}attn.c_attn.weight"] = torch.cat(parts).t().contiguous()
            put_bias(theirs, f"{layer}attn.c_attn", [state.get(f"{stem}.bias") for stem in stems], parts)

        return theirs

    def from_hf(self, state: Weights) -> Weights:
        """Return their weights and biases under our names."""
        ours: Weights = {}
        for full_name, tensor in state.items():
            name = full_name.removeprefix("transformer.")
            if MASKS.fullmatch(name):
                continue

            stem, _, kind = name.rpartition(".")
            ours.update(our_weights(stem, kind, tensor))

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


def put_bias(theirs: Weights, name: str, biases: Sequence[Tensor | None], weights: Sequence[Tensor]) -> None:
    """Add one of their biases: our biases one after another, with zeros for missing ones."""
    known = [
        weight.new_zeros(weight.shape[0]) if bias is None else bias
        for bias, weight in zip(biases, weights, strict=True)
    ]
    theirs[f"{name}.bias"] = torch.cat(known)


def our_weights(stem: str, kind: str, tensor: Tensor) -> Weights:
    """Return our weights for one of theirs: three for the joined q, k and v, one for any other.

    ``kind`` is "weight" or "bias". The weight of a ``Conv1D`` is transposed.
    """
    match = re.fullmatch(r"h\.(\d+)\.(.+)", stem)
    if match is None:
        # An unknown name stays as it is, and the check of all names then reports it.
        root = {theirs: name for name, theirs in ROOT_NAMES.items()}
        return {f"{root.get(stem, stem)}.{kind}": tensor}

    block = f"blocks.{match[1]}."
    turned = tensor.t() if tensor.ndim == 2 else tensor
    if match[2] == "attn.c_attn":
        parts = zip("qkv", turned.chunk(3), strict=True)
        return {f"{block}self_attn.{letter}_proj.{kind}": part.contiguous() for letter, part in parts}

    inside = {theirs: name for name, theirs in BLOCK_NAMES.items()}
    return {f"{block}{inside.get(match[2], match[2])}.{kind}": turned.contiguous()}

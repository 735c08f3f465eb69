"""Our weights and configurations under the names of ``transformers``, and back.

Nothing here imports ``transformers``: a folder of theirs is ``config.json`` and safetensors files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.trainer.models import build_model
from jobctl.trainer.models.attention import ManualAttention

Weights = dict[str, Tensor]

CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

GPT2_NAMES = {
    "input_layernorm": "ln_1",
    "self_attn.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
"""Ours -> theirs inside a block. q, k and v are one matrix of theirs, ``attn.c_attn``."""

GPT2_OUTSIDE = {"embed_tokens": "wte", "embed_positions": "wpe", "norm": "ln_f"}
GPT2_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
"""Buffers that old GPT-2 files hold among the weights."""


# ----------------------------------------------------------------------------------------- configurations


def hf_config(config: ModelConfig, dtype: str, token_ids: dict[str, int | None]) -> dict[str, Any]:
    """The content of ``config.json``. ``token_ids`` may give ``bos_token_id`` and ``eos_token_id``.

    The RoPE base is written both ways, for transformers 4 and 5. Raises UserError for a shape of ours that
    theirs cannot have.
    """
    shared = {
        "model_type": config.architecture,
        "architectures": [CLASSES[config.architecture]],
        "vocab_size": config.vocab_size,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_word_embeddings,
        "dtype": dtype,
        "torch_dtype": dtype,
        "bos_token_id": token_ids.get("bos_token_id"),
        "eos_token_id": token_ids.get("eos_token_id"),
    }
    if config.architecture == "gpt2":
        return shared | gpt2_config(config)
    return shared | {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
    }


def gpt2_config(config: ModelConfig) -> dict[str, Any]:
    width = config.num_attention_heads * config.head_dim
    if width != config.hidden_size or config.num_key_value_heads != config.num_attention_heads:
        raise UserError(
            f"transformers' GPT-2 has none of width {config.hidden_size} with {config.num_attention_heads} "
            f"heads of {config.head_dim} and {config.num_key_value_heads} key heads",
            hint="it needs heads · head_dim = width, and as many key heads as heads",
        )
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


def config_from_hf(values: dict[str, Any]) -> ModelConfig:
    """Our configuration of a ``config.json``. Raises UserError for what our models lack, by its key."""
    kind = values.get("model_type", "")
    if kind not in CLASSES:
        raise UserError(
            f"config.json: model_type '{kind}' is not one of ours", hint=nearest(str(kind), CLASSES)
        )
    refuse_unsupported(values, kind)
    if kind == "gpt2":
        width, heads = values.get("n_embd", 768), values.get("n_head", 12)
        return ModelConfig(
            architecture="gpt2",
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
    heads = required(values, "num_attention_heads")
    default_head = 128 if kind == "qwen3" else required(values, "hidden_size") // heads
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return ModelConfig(
        architecture=kind,
        vocab_size=required(values, "vocab_size"),
        hidden_size=required(values, "hidden_size"),
        intermediate_size=required(values, "intermediate_size"),
        num_hidden_layers=required(values, "num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or default_head,
        max_position_embeddings=required(values, "max_position_embeddings"),
        rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 10000.0),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        tie_word_embeddings=values.get("tie_word_embeddings", False),
        initializer_range=values.get("initializer_range", 0.02),
    )


def required(values: dict[str, Any], key: str) -> Any:
    """Small configurations are not written with their defaults, so a missing shape is not guessed."""
    if values.get(key) is None:
        raise UserError(f"config.json: '{key}' is missing", hint="save the model with a recent transformers")
    return values[key]


def refuse_unsupported(values: dict[str, Any], kind: str) -> None:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    activations = ("gelu_new", "gelu_pytorch_tanh") if kind == "gpt2" else ("silu", "swish")
    key = "activation_function" if kind == "gpt2" else "hidden_act"
    allowed: dict[str, tuple[Any, ...]] = {
        key: activations,
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "use_sliding_window": (False,),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
    }
    for name, wanted in allowed.items():
        value = values.get(name)
        if value is not None and value not in wanted:
            raise UserError(f"config.json: {name}={value} is not supported", hint=f"it must be {wanted[0]}")
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling != "default":
        raise UserError(f"config.json: rope_type={scaling} is not supported", hint="it must be default")
    if values.get("quantization_config") is not None:
        raise UserError("config.json: the weights are quantized", hint="load the unquantized model")


# ------------------------------------------------------------------------------------------------ weights


def to_hf(config: ModelConfig, state: Weights) -> Weights:
    """Our state dict under their names. A GPT-2 of ours has no biases; theirs are written as zeros."""
    if config.architecture == "gpt2":
        return gpt2_to_hf(config, state)
    return {llama_name(name): tensor for name, tensor in state.items()}


def from_hf(config: ModelConfig, state: Weights) -> Weights:
    """Their state dict under our names. Raises UserError for a GPT-2 whose biases are not zero."""
    if config.tie_word_embeddings:
        state = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    if config.architecture == "gpt2":
        return gpt2_from_hf(state)
    prefix = re.compile(r"^model\.(layers\.)?")
    return {
        prefix.sub(lambda match: "blocks." if match[1] else "", name): tensor
        for name, tensor in state.items()
        if not name.endswith("rotary_emb.inv_freq")
    }


def llama_name(name: str) -> str:
    return name if name == "lm_head.weight" else "model." + re.sub(r"^blocks\.", "layers.", name)


def gpt2_to_hf(config: ModelConfig, state: Weights) -> Weights:
    """Their linear layers hold the transpose of ours (``Conv1D``)."""
    theirs: Weights = {}

    def put(name: str, weight: Tensor, biased: bool = True) -> None:
        theirs[f"{name}.weight"] = weight.contiguous()
        if biased:
            theirs[f"{name}.bias"] = torch.zeros(weight.shape[-1], dtype=weight.dtype)

    for ours, name in GPT2_OUTSIDE.items():
        put(f"transformer.{name}", state[f"{ours}.weight"], biased=ours == "norm")
    if not config.tie_word_embeddings:
        put("lm_head", state["lm_head.weight"], biased=False)
    for index in range(config.num_hidden_layers):
        block, layer = f"blocks.{index}.", f"transformer.h.{index}."
        for ours, name in GPT2_NAMES.items():
            weight = state[f"{block}{ours}.weight"]
            put(layer + name, weight.t() if weight.ndim == 2 else weight)
        parts = [state[f"{block}self_attn.{letter}_proj.weight"] for letter in "qkv"]
        put(layer + "attn.c_attn", torch.cat(parts).t())
    return theirs


def gpt2_from_hf(state: Weights) -> Weights:
    ours: Weights = {}
    inside = {theirs: name for name, theirs in GPT2_NAMES.items()}
    outside = {theirs: name for name, theirs in GPT2_OUTSIDE.items()}
    for full_name, tensor in state.items():
        name = full_name.removeprefix("transformer.")
        if GPT2_MASKS.fullmatch(name):
            continue
        if name.endswith(".bias"):
            if tensor.any():
                raise UserError(
                    f"{full_name} is not zero, and our GPT-2 has no biases", hint="it cannot be loaded"
                )
            continue
        stem = name.removesuffix(".weight")
        match = re.fullmatch(r"h\.(\d+)\.(.+)", stem)
        if match is None:
            ours[f"{outside.get(stem, stem)}.weight"] = tensor
        elif match[2] == "attn.c_attn":
            for letter, part in zip("qkv", tensor.t().chunk(3), strict=True):
                ours[f"blocks.{match[1]}.self_attn.{letter}_proj.weight"] = part.contiguous()
        else:
            weight = tensor.t().contiguous() if tensor.ndim == 2 else tensor
            ours[f"blocks.{match[1]}.{inside.get(match[2], match[2])}.weight"] = weight
    return ours


def load_hf(folder: Path) -> tuple[ModelConfig, Weights]:
    """(configuration, our state dict) of a folder that ``save_pretrained`` wrote, from safetensors only.

    Raises UserError where a file is missing, or where its weights are not those of one of our models.
    """
    try:
        config = config_from_hf(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}/config.json cannot be read: {error}", hint="is it a transformers folder?"
        ) from error
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        hint = "save it with safe_serialization=True; pickled weights are not loaded"
        raise UserError(f"{folder} has no model*.safetensors", hint=hint)
    theirs: Weights = {}
    for file in files:
        theirs.update(load_file(file))
    state = from_hf(config, theirs)
    check_shapes(config, state, folder)
    return config, state


def check_shapes(config: ModelConfig, state: Weights, folder: Path) -> None:
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in build_model(config, ManualAttention()).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{folder}: {name} is {found.get(name, 'missing')}, "
                f"expected {expected.get(name, 'no such weight')}",
                hint="the weights do not belong to the config.json beside them",
            )

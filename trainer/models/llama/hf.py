"""LLaMA in ``transformers``.

Families with the same keys and the same names of weights use this mapping, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from jobctl.jobs.catalog.schema import ModelConfig, RopeType
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.hf_mapping import Weights, refuse_unsupported, required, rope_values

ROPE_TYPES: tuple[str, ...] = get_args(RopeType)
THEIR_PREFIX = re.compile(r"^model\.(layers\.)?")


@dataclass(frozen=True)
class LlamaMapping:
    """The mapping. ``default_head_dim`` is for a ``config.json`` without head_dim; 0 means width / heads."""

    model_type: str
    class_name: str
    default_head_dim: int = 0
    width_of_heads: bool = False
    """True if their configuration requires a width that is a multiple of the heads, even with another head_dim."""

    def config_values(self, config: ModelConfig) -> dict[str, Any]:
        """Return LLaMA's keys. RoPE is written twice: for transformers 4 and for 5.

        Raises UserError for a shape that their configuration refuses.
        """
        if self.width_of_heads and config.hidden_size % config.num_attention_heads:
            raise UserError(
                f"transformers' {self.class_name} refuses a width of {config.hidden_size} with "
                f"{config.num_attention_heads} heads: the width must be a multiple of the heads, for any head_dim",
                hint="train a width that the heads divide; sample and eval read the run as it is",
            )

        rope = rope_parameters(config)
        scaled = {"rope_scaling": rope} if config.rope_type != "default" else {}

        return {
            **scaled,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "max_position_embeddings": config.max_position_embeddings,
            "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rope_theta,
            "rope_parameters": rope,
            "hidden_act": "silu",
            "attention_bias": False,
        }

    def model_config(self, architecture: str, values: Mapping[str, Any]) -> ModelConfig:
        """Return our configuration for LLaMA's keys. Raises UserError for an unsupported one."""
        refuse_unsupported(values, "hidden_act", ("silu", "swish"))
        heads = required(values, "num_attention_heads")
        default_head = self.default_head_dim or required(values, "hidden_size") // heads
        # transformers 5 has it in the RoPE section, version 4 beside it. The oldest files leave it out.
        theta = rope_values(values).get("rope_theta") or values.get("rope_theta") or 10000.0

        return ModelConfig(
            architecture=architecture,
            vocab_size=required(values, "vocab_size"),
            hidden_size=required(values, "hidden_size"),
            intermediate_size=required(values, "intermediate_size"),
            num_hidden_layers=required(values, "num_hidden_layers"),
            num_attention_heads=heads,
            # Files from before grouped queries do not have this key.
            num_key_value_heads=values.get("num_key_value_heads") or heads,
            head_dim=values.get("head_dim") or default_head,
            max_position_embeddings=required(values, "max_position_embeddings"),
            rope_theta=float(theta),
            **rope_fields(values),
            # Old files leave out keys that have transformers' defaults.
            norm_eps=values.get("rms_norm_eps", 1e-6),
            tie_word_embeddings=values.get("tie_word_embeddings", False),
            initializer_range=values.get("initializer_range", 0.02),
        )

    def to_hf(self, config: ModelConfig, state: Weights) -> Weights:
        """Rename our blocks to their layers."""
        return {their_name(name): tensor for name, tensor in state.items()}

    def from_hf(self, state: Weights) -> Weights:
        """Rename their layers to our blocks. Skip the rotary table, which is computed."""
        return {
            THEIR_PREFIX.sub(lambda match: "blocks." if match[1] else "", name): tensor
            for name, tensor in state.items()
            if not name.endswith("rotary_emb.inv_freq")
        }


def rope_parameters(config: ModelConfig) -> dict[str, Any]:
    """Return the section ``rope_parameters`` of their configuration."""
    section: dict[str, Any] = {"rope_type": config.rope_type, "rope_theta": config.rope_theta}
    if config.rope_type != "default":
        section["factor"] = config.rope_factor

    if config.rope_type == "llama3":
        section |= {
            "low_freq_factor": config.rope_low_freq_factor,
            "high_freq_factor": config.rope_high_freq_factor,
            "original_max_position_embeddings": config.rope_original_positions,
        }

    return section


def rope_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return our fields for their RoPE section. Raises UserError for a scaling that we do not have."""
    section = rope_values(values)

    # Older releases of transformers wrote `type`.
    kind = section.get("rope_type", section.get("type", "default"))
    # A rotation of only a part of each head is another model, with the same shapes.
    if kind not in ROPE_TYPES or section.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(
            f"config.json: rope_type={kind} is not supported", hint=f"we have {', '.join(ROPE_TYPES)}"
        )

    if kind == "default":
        return {}

    fields = {"rope_type": kind, "rope_factor": required(section, "factor")}
    if kind == "llama3":
        fields |= {
            "rope_low_freq_factor": required(section, "low_freq_factor"),
            "rope_high_freq_factor": required(section, "high_freq_factor"),
            "rope_original_positions": required(section, "original_max_position_embeddings"),
        }

    return fields


def their_name(name: str) -> str:
    """Return the name in ``transformers`` of one of our weights."""
    return name if name == "lm_head.weight" else "model." + re.sub(r"^blocks\.", "layers.", name)

"""LLaMA in ``transformers``; families with the same keys and names of weights use the mapping too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.models.hf_mapping import Weights, refuse_unsupported, required, rope_values

THEIR_PREFIX = re.compile(r"^model\.(layers\.)?")


@dataclass(frozen=True)
class LlamaMapping:
    """The mapping. ``default_head_dim``: where ``config.json`` has no head_dim; 0: width / heads."""

    model_type: str
    class_name: str
    default_head_dim: int = 0

    def config_values(self, config: ModelConfig) -> dict[str, Any]:
        """Return LLaMA's keys. The RoPE base is written twice: for transformers 4 and for 5."""
        return {
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

    def model_config(self, architecture: str, values: Mapping[str, Any]) -> ModelConfig:
        """Return our configuration of LLaMA's keys. Raises UserError for an unsupported one."""
        refuse_unsupported(values, "hidden_act", ("silu", "swish"))
        heads = required(values, "num_attention_heads")
        default_head = self.default_head_dim or required(values, "hidden_size") // heads
        theta = rope_values(values).get("rope_theta") or values.get("rope_theta") or 10000.0

        return ModelConfig(
            architecture=architecture,
            vocab_size=required(values, "vocab_size"),
            hidden_size=required(values, "hidden_size"),
            intermediate_size=required(values, "intermediate_size"),
            num_hidden_layers=required(values, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=values.get("num_key_value_heads") or heads,
            head_dim=values.get("head_dim") or default_head,
            max_position_embeddings=required(values, "max_position_embeddings"),
            rope_theta=float(theta),
            norm_eps=values.get("rms_norm_eps", 1e-6),
            tie_word_embeddings=values.get("tie_word_embeddings", False),
            initializer_range=values.get("initializer_range", 0.02),
        )

    def to_hf(self, config: ModelConfig, state: Weights) -> Weights:
        """Rename our blocks to their layers."""
        return {their_name(name): tensor for name, tensor in state.items()}

    def from_hf(self, state: Weights) -> Weights:
        """Rename their layers to our blocks; the rotary table is computed and not loaded."""
        return {
            THEIR_PREFIX.sub(lambda match: "blocks." if match[1] else "", name): tensor
            for name, tensor in state.items()
            if not name.endswith("rotary_emb.inv_freq")
        }


def their_name(name: str) -> str:
    """Return the name in ``transformers`` of one of our weights."""
    return name if name == "lm_head.weight" else "model." + re.sub(r"^blocks\.", "layers.", name)

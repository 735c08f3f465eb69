"""Small models of every registered family, and their twins in ``transformers``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.interop.hf_folder import hf_config, to_hf
from jobctl.trainer.models.attention import Attention, ManualAttention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.family import Family
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.models.layers.norm import Norm
from jobctl.trainer.models.registry import families, family_of
from tests.trainer.models import gemma_like as gemma_like  # registers its family

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "gpt2": {
        "gpt2": {"tie_word_embeddings": True},
        "gpt2-biases": {"bias": True},
    },
    "llama": {
        "llama-gqa": {"num_key_value_heads": 2, "rope_theta": 500_000.0},
        "llama-mha": {},
        "llama-3.1": {
            "num_key_value_heads": 2,
            "rope_theta": 500_000.0,
            "rope_type": "llama3",
            "rope_factor": 8.0,
            "rope_original_positions": 32,
        },
        "llama-linear": {"rope_type": "linear", "rope_factor": 4.0},
        "llama-tied": {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
    },
    "qwen3": {
        "qwen3": {"num_key_value_heads": 2, "head_dim": 16, "rope_theta": 1e6},
        "qwen3-mqa": {"num_key_value_heads": 1, "head_dim": 8, "norm_eps": 1e-6},
    },
}
"""Shapes by family. A family that is not here is tested in one shape, which has its name."""

SHAPES: dict[str, dict[str, Any]] = {
    shape: {"architecture": family.name, **changes}
    for family in families()
    for shape, changes in VARIANTS.get(family.name, {family.name: {}}).items()
}
"""Every shape of every registered family."""

ONE_OF_EACH = [next(iter(VARIANTS.get(family.name, {family.name: {}}))) for family in families()]
"""The first shape of each family, for tests that take long."""


def family(shape: str) -> Family:
    """Return the family of a shape."""
    return family_of(SHAPES[shape]["architecture"])


FUSED = [shape for shape in ONE_OF_EACH if family(shape).fused_block is not None]
"""One shape of each family that declares a fused block."""

WITH_HF = [shape for shape in SHAPES if family(shape).hf is not None]
"""Every shape that has a counterpart in ``transformers``."""


def config(shape: str, **changes: Any) -> ModelConfig:
    """Width 48 and four heads, so that heads of 16 or 8 do not add up to the width."""
    fields: dict[str, Any] = {
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 12,
        "max_position_embeddings": 64,
    }
    return ModelConfig(**{**fields, **SHAPES[shape], **changes})


def model(shape: str, attention: Attention | None = None, seed: int = 0, **changes: Any) -> Decoder:
    """With weights far from the initial ones, gains included, so that nothing is hidden by a small output."""
    torch.manual_seed(seed)
    built = build_model(config(shape, **changes), attention or ManualAttention())
    gains = {id(norm.weight): norm.initial_gain for norm in built.modules() if isinstance(norm, Norm)}
    with torch.no_grad():
        for parameter in built.parameters():
            noise = torch.randn_like(parameter)
            gain = gains.get(id(parameter))
            parameter.copy_(0.15 * noise if gain is None else gain + 0.2 * noise)
    return built


def tokens(batch: int = 2, length: int = 17, seed: int = 1) -> Tensor:
    return torch.randint(101, (batch, length), generator=torch.Generator().manual_seed(seed))


def twin(ours: Decoder) -> nn.Module:
    """transformers' model of the same weights, in eager attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = hf_config(ours.config, "float32", {})
    theirs_config = AutoConfig.for_model(**values)
    theirs = AutoModelForCausalLM.from_config(theirs_config, attn_implementation="eager")
    state = to_hf(ours.config, ours.state_dict())
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name == "lm_head.weight" and ours.config.tie_word_embeddings for name in missing)
    return theirs.eval()

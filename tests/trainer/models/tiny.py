"""Small models of each architecture, and their twins in ``transformers``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.interop.hf import hf_config, to_hf
from jobctl.trainer.models import build_model
from jobctl.trainer.models.attention import Attention, ManualAttention
from jobctl.trainer.models.decoder import Decoder

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"architecture": "gpt2", "num_key_value_heads": 4, "head_dim": 12, "tie_word_embeddings": True},
    "llama-mha": {"architecture": "llama", "num_key_value_heads": 4, "head_dim": 12},
    "llama-gqa": {"architecture": "llama", "num_key_value_heads": 2, "head_dim": 12, "rope_theta": 500_000.0},
    "llama-tied": {
        "architecture": "llama",
        "num_key_value_heads": 1,
        "head_dim": 16,
        "tie_word_embeddings": True,
    },
    "qwen3": {"architecture": "qwen3", "num_key_value_heads": 2, "head_dim": 16, "rope_theta": 1e6},
    "qwen3-mqa": {"architecture": "qwen3", "num_key_value_heads": 1, "head_dim": 8, "norm_eps": 1e-6},
}


def config(shape: str, **changes: Any) -> ModelConfig:
    """Width 48 and four heads, so that heads of 16 or 8 do not add up to the width."""
    fields: dict[str, Any] = {
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    return ModelConfig(**{**fields, **SHAPES[shape], **changes})


def model(shape: str, attention: Attention | None = None, seed: int = 0, **changes: Any) -> Decoder:
    """With weights far from the initial ones, gains included, so that nothing is hidden by a small output."""
    torch.manual_seed(seed)
    built = build_model(config(shape, **changes), attention or ManualAttention())
    with torch.no_grad():
        for parameter in built.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 else 0.15 * noise)
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

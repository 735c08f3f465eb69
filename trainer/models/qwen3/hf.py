"""Qwen3 in ``transformers``: LLaMA's keys and names, and heads of 128 where none are given."""

from __future__ import annotations

from jobctl.trainer.models.llama.hf import LlamaMapping

QWEN3 = LlamaMapping(model_type="qwen3", class_name="Qwen3ForCausalLM", default_head_dim=128)

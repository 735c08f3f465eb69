"""Qwen3, dense (Qwen3 technical report, 2025): LLaMA with an RMSNorm on each head's queries and keys."""

from __future__ import annotations

from jobctl.trainer.models.llama import Llama


class Qwen3(Llama):
    qk_norm = True

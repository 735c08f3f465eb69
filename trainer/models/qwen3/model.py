"""Qwen3, dense: LLaMA with an RMSNorm on the queries and keys of each head."""

from __future__ import annotations

from typing import ClassVar

from jobctl.trainer.models.llama.model import Llama


class Qwen3(Llama):
    """Qwen3 (Qwen3 technical report, 2025)."""

    qk_norm: ClassVar[bool] = True

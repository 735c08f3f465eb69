"""The Qwen3 family, dense models."""

from __future__ import annotations

from jobctl.trainer.models.family import BlockForm, Family
from jobctl.trainer.models.qwen3.hf import QWEN3
from jobctl.trainer.models.qwen3.model import Qwen3

FAMILY = Family(
    name="qwen3",
    build=Qwen3,
    hf=QWEN3,
    fused_block=BlockForm(norm="rms", feed_forward="swiglu"),
)

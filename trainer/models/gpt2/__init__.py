"""The GPT-2 family."""

from __future__ import annotations

from jobctl.trainer.models.family import BlockForm, Family
from jobctl.trainer.models.gpt2.hf import GPT2Mapping
from jobctl.trainer.models.gpt2.model import GPT2

FAMILY = Family(
    name="gpt2",
    build=GPT2,
    hf=GPT2Mapping(),
    fused_block=BlockForm(norm="layer", feed_forward="gelu"),
)

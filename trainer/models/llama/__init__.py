"""The LLaMA family, versions 2 and 3."""

from __future__ import annotations

from jobctl.trainer.models.family import BlockForm, Family
from jobctl.trainer.models.llama.hf import LlamaMapping
from jobctl.trainer.models.llama.model import Llama

FAMILY = Family(
    name="llama",
    build=Llama,
    hf=LlamaMapping(model_type="llama", class_name="LlamaForCausalLM", width_of_heads=True),
    fused_block=BlockForm(norm="rms", feed_forward="swiglu"),
)

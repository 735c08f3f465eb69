"""The declaration of a model family: all that the trainer must know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.hf_mapping import HfMapping
from jobctl.trainer.models.layers.decoder import Decoder


@dataclass(frozen=True)
class BlockForm:
    """The form of a family's blocks, if the fused kernels compute exactly this form.

    ``norm`` is the norm before attention, before feed-forward and at the end of the model: "rms" is
    ``RMSNorm``, "layer" is ``LayerNorm``. ``feed_forward`` "swiglu" is ``SwiGluFeedForward``, "gelu" is
    ``GeluFeedForward``. Attention is ``SelfAttention`` with any of its positions and norms.
    """

    norm: Literal["rms", "layer"]
    feed_forward: Literal["swiglu", "gelu"]


@dataclass(frozen=True)
class Family:
    """One family. Facts that need no torch are in the catalogue, under the same ``name``.

    ``build`` makes the model of a configuration. ``hf`` translates to ``transformers`` and back; None means
    that there is no counterpart. ``fused_block`` None means that the fused kernels must not compute the
    blocks.
    """

    name: str
    build: Callable[[ModelConfig, Attention], Decoder]
    hf: HfMapping | None
    fused_block: BlockForm | None

"""The shape of a model: the keys of an architecture."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobctl.jobs.catalog.schema.naming import NAME
from jobctl.jobs.core.bounds import LARGEST, MOST

RopeType = Literal["default", "linear", "llama3"]


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An architecture, in the field names of ``transformers``."""

    architecture: Annotated[
        str, Meta(pattern=NAME, description="model family: an entry of the catalogue's families/")
    ]
    vocab_size: Annotated[
        int, Meta(ge=1, le=MOST, description="rows of the embedding and of the output head")
    ]
    hidden_size: Annotated[int, Meta(ge=1, le=MOST, description="width of the residual stream")]
    intermediate_size: Annotated[int, Meta(ge=1, le=MOST, description="width inside the feed-forward block")]
    num_hidden_layers: Annotated[int, Meta(ge=1, le=MOST, description="transformer blocks")]
    num_attention_heads: Annotated[int, Meta(ge=1, le=MOST, description="query heads")]
    num_key_value_heads: Annotated[
        int, Meta(ge=1, le=MOST, description="key and value heads (GQA when fewer)")
    ]
    head_dim: Annotated[int, Meta(ge=2, le=MOST, description="size of one head")]
    max_position_embeddings: Annotated[
        int, Meta(ge=1, le=MOST, description="longest sequence; GPT-2 learns one row each")
    ]
    rope_theta: Annotated[float, Meta(gt=0, le=LARGEST, description="RoPE base (unused by gpt2)")] = 10000.0
    rope_type: Annotated[
        RopeType,
        Meta(description="scaling of RoPE's frequencies for longer text; llama3: the scaling of Llama 3.1"),
    ] = "default"
    rope_factor: Annotated[float, Meta(ge=1, le=LARGEST, description="divisor of the scaled frequencies")] = (
        1.0
    )
    rope_low_freq_factor: Annotated[
        float,
        Meta(
            gt=0,
            le=LARGEST,
            description="llama3: scale frequencies with fewer turns than this in the original length",
        ),
    ] = 1.0
    rope_high_freq_factor: Annotated[
        float,
        Meta(
            gt=0,
            le=LARGEST,
            description="llama3: do not scale frequencies with more turns than this in the original length",
        ),
    ] = 4.0
    rope_original_positions: Annotated[
        int, Meta(ge=1, le=MOST, description="llama3: the length that the model was first trained with")
    ] = 8192
    bias: Annotated[
        bool, Meta(description="biases in linear layers and LayerNorms, as in OpenAI's GPT-2")
    ] = False
    norm_eps: Annotated[float, Meta(gt=0, le=LARGEST, description="epsilon of RMSNorm or LayerNorm")] = 1e-5
    tie_word_embeddings: Annotated[bool, Meta(description="the output head is the embedding")] = False
    initializer_range: Annotated[
        float, Meta(gt=0, le=LARGEST, description="std of the normal initialisation")
    ] = 0.02

"""List every shape that a family allows: layers, width, heads, key heads and feed-forward width.

The rules follow the catalogue's families and published dense models. Heads have 128 numbers. Widths are
multiples of 128, and 48 to 160 times the depth. Feed-forward layers have the family's own proportion.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from jobctl.jobs.catalog.entries import ModelEntry
from jobctl.jobs.catalog.loader import load_entry, load_family, names
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError, nearest

HEAD = 128
WIDTH_STEP = 128
INNER_STEP = 256
LAYERS = range(8, 129, 2)
WIDTHS = range(512, 16385, WIDTH_STEP)
ASPECT = (48, 160)
"""Width over depth. GPT-3 to Qwen3 are within it (Kaplan et al. 2020, fig. 5: it hardly changes the loss)."""
GATED_INNER = (2.5, 2.67, 3.0, 3.5, 4.0)
PLAIN_INNER = (4.0,)
"""Feed-forward width over the model's width."""
KEY_HEADS = (4, 8, 16)
"""Numbers of key heads for grouped queries, if they divide the heads."""
TEMPLATES = {"gpt2": "gpt2_1.36b", "llama2": "llama2_1.36b", "llama3": "llama3_1.5b", "qwen3": "qwen3_1.8b"}
"""Models of the catalogue that give a family its vocabulary, positions and recipe."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A family to search in. The shape of its model changes; the rest of its entry stays."""

    name: str
    config: ModelConfig
    entry: ModelEntry
    grouped: bool
    """True if several query heads of the family share a key head."""


def template(family: str) -> Template:
    """Return the family to search in. Raises UserError with the nearest name if there is none."""
    if family not in TEMPLATES:
        raise UserError(f"unknown family '{family}'; {nearest(family, TEMPLATES)}")

    entry = load_entry("models", TEMPLATES[family], ModelEntry)
    settings = {k: v for k, v in entry.settings.items() if k in ModelConfig.__struct_fields__}
    config = msgspec.convert(settings, ModelConfig)
    return Template(
        name=family,
        config=config,
        entry=entry,
        grouped=config.num_key_value_heads < config.num_attention_heads,
    )


def architectures(family: Template, layers: range = LAYERS, widths: range = WIDTHS) -> Iterator[ModelConfig]:
    """Yield every shape of ``family``. The vocabulary does not change."""
    gated = load_family(family.config.architecture).gated_feed_forward
    for width in widths:
        heads = width // HEAD
        # A set: two factors can round to the same width.
        inner_widths = sorted(
            {
                round(width * factor / INNER_STEP) * INNER_STEP
                for factor in (GATED_INNER if gated else PLAIN_INNER)
            }
        )

        for depth in layers:
            if not ASPECT[0] <= width / depth <= ASPECT[1]:
                continue

            for inner in inner_widths:
                for key_heads in _key_heads(family, heads):
                    yield msgspec.structs.replace(
                        family.config,
                        hidden_size=width,
                        num_hidden_layers=depth,
                        num_attention_heads=heads,
                        num_key_value_heads=key_heads,
                        head_dim=HEAD,
                        intermediate_size=inner,
                    )


def _key_heads(family: Template, heads: int) -> list[int]:
    """Return the numbers of key heads that a shape may have.

    A grouped family has fewer key heads than heads.
    """
    if not family.grouped:
        return [heads]
    return [count for count in KEY_HEADS if heads % count == 0 and count < heads]


def catalogue_models(family: Template) -> list[str]:
    """Return the catalogue's models with the architecture and the vocabulary of ``family``.

    Smoke models are left out.
    """
    chosen = []
    for name in names("models"):
        settings = load_entry("models", name, ModelEntry).settings
        # Losses per token are comparable only between models of one vocabulary.
        same = settings["architecture"] == family.config.architecture
        if same and settings["vocab_size"] == family.config.vocab_size:
            chosen.append(name)

    return chosen

"""Write a shape as an entry of the catalogue: a YAML file that ``--model ./NAME.yaml`` trains."""

from __future__ import annotations

from typing import Any

import yaml

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.scaling.architectures import Template
from jobctl.jobs.scaling.search import Candidate

TOKENS_PER_STEP = 2**21
"""The batch of the catalogue's recipes: 1,024 sequences of 2,048 tokens."""
WARM_UP = 0.05
"""The largest share of the steps for the warm-up. A smaller number in the template wins."""


def settings_of(candidate: Candidate, template: Template, block_size: int) -> dict[str, Any]:
    """Return the settings of the entry: the template's recipe with the candidate's shape and length."""
    # Keys that the template leaves to their defaults stay out of the entry.
    shape = {
        key: getattr(candidate.model, key)
        for key in ModelConfig.__struct_fields__
        if key in template.entry.settings
    }
    steps = max(20, round(candidate.tokens / TOKENS_PER_STEP))
    warm_up = template.entry.settings.get("warmup_iters", steps)
    assert isinstance(warm_up, int)

    settings = dict(template.entry.settings) | shape
    settings |= {
        "max_position_embeddings": max(candidate.model.max_position_embeddings, block_size),
        "block_size": block_size,
        "lr_decay_iters": steps,
        "warmup_iters": min(warm_up, max(1, round(WARM_UP * steps))),
    }
    return settings


def entry_yaml(candidate: Candidate, template: Template, block_size: int, origin: str) -> str:
    """Return the text of the entry. ``origin`` is the command that made it."""
    document = {
        "summary": f"{template.name}, {candidate.parameters / 1e9:.3g}B parameters, "
        f"{candidate.tokens / 1e9:.4g}B tokens, predicted loss {candidate.loss:.3f}",
        "optimal_tokens": float(round(candidate.tokens)),
        "settings": settings_of(candidate, template, block_size),
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return f"# made by: {origin}\n{text}"

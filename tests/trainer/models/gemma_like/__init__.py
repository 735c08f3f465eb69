"""A family that only the tests have, made as CONTRIBUTING's recipe says, without a fused block."""

from __future__ import annotations

from jobctl.jobs.catalog.entries import FamilyEntry
from jobctl.trainer.models.family import Family
from jobctl.trainer.models.registry import register
from tests.trainer.models.gemma_like.model import Gemma

FACTS = FamilyEntry(
    summary="after Gemma 2 (Gemma Team 2024), for tests",
    gated_feed_forward=True,
    norms_per_block=4,
)

FAMILY = Family(name="gemma_like", build=Gemma, hf=None, fused_block=None)

register(FAMILY, FACTS)

"""The list of model families."""

from __future__ import annotations

from jobctl.jobs.catalog.entries import FamilyEntry
from jobctl.jobs.catalog.loader import declare_family
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.trainer.models import gpt2, llama, qwen3
from jobctl.trainer.models.family import Family

_families = {family.name: family for family in (gpt2.FAMILY, llama.FAMILY, qwen3.FAMILY)}


def register(family: Family, facts: FamilyEntry) -> None:
    """Add a family from outside this folder. ``facts`` replaces its file in the catalogue."""
    declare_family(family.name, facts)
    _families[family.name] = family


def families() -> list[Family]:
    """Return every family, sorted by name."""
    return [_families[name] for name in sorted(_families)]


def family_of(architecture: str) -> Family:
    """Return the family called ``architecture``. Raises UserError with the nearest name."""
    if architecture not in _families:
        raise UserError(
            f"unknown architecture '{architecture}'; {nearest(architecture, _families)}",
            hint="jobctl catalog list families",
        )

    return _families[architecture]

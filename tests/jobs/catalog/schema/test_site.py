"""The sections of a site are what the tables say, and each target that has a section finds it."""

from __future__ import annotations

from typing import get_type_hints

import msgspec
import pytest

from jobctl.jobs.catalog.schema import KEYS, SCHEDULERS, SITE_SECTIONS, Site
from jobctl.jobs.targets.registry import BUILT_IN


def test_the_table_of_sections_is_what_a_site_has() -> None:
    hints = get_type_hints(Site)
    nested = {
        name: kind
        for name, kind in hints.items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    assert nested == SITE_SECTIONS
    assert set(SCHEDULERS) < set(SITE_SECTIONS)


def test_a_targets_section_is_one_of_a_scheduler() -> None:
    assert {entry.section for entry in BUILT_IN if entry.section} == set(SCHEDULERS)


def test_every_key_has_one_line_of_help() -> None:
    for key, kind in KEYS.items():
        hint = get_type_hints(kind, include_extras=True)[key.rpartition(".")[2]]
        (meta,) = hint.__metadata__
        assert meta.description
        assert "\n" not in meta.description


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "gpu"}, "unknown field `partition`"),
        ({"slurm": {"namespace": "a"}}, "unknown field `namespace`"),
        ({"kubernetes": {"run_as_user": 0}}, "Expected `int` >= 1"),
        ({"container": {"runtime": "rkt"}}, "Invalid enum value 'rkt'"),
    ],
)
def test_a_section_takes_its_own_keys_and_values_alone(settings: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(settings, Site)

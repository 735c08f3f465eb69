"""Every setting can be explained, from the schema itself."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.schema.describing import describe
from jobctl.jobs.catalog.schema.keys import KEYS


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_meaning_and_a_type(key: str) -> None:
    described = describe(key)
    assert len(described.description) > 5
    assert described.type


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("batch_size", "whole number", 4),
        ("use_fsdp", "true or false", False),
        ("preflight", "one of: off, report, stop", "off"),
        ("env", "mapping", {}),
        ("modules", "list", []),
        ("hidden_size", "whole number", None),
    ],
)
def test_types_and_defaults_are_those_of_the_schema(key: str, kind: str, default: object) -> None:
    described = describe(key)
    assert (described.type, described.default) == (kind, default)


def test_a_key_that_is_none_is_no_description() -> None:
    with pytest.raises(KeyError):
        describe("nothing")

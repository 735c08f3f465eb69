"""No number that a user gives is without a largest value."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.jobs.catalog.schema import SECTIONS, SITE_SECTIONS

STRUCTS = (*SECTIONS, *SITE_SECTIONS.values(), DatasetEntry, PrepConfig)


def numbers_in(kind: inspect.Type) -> Iterator[inspect.IntType | inspect.FloatType]:
    """Yield the numbers of a type: itself, or those in its list, mapping, union or description.

    A number that may also be text is passed on to another program, which knows its bounds.
    """
    if isinstance(kind, inspect.UnionType) and any(isinstance(part, inspect.StrType) for part in kind.types):
        return

    if isinstance(kind, inspect.IntType | inspect.FloatType):
        yield kind

    inner = [getattr(kind, name, None) for name in ("type", "item_type", "value_type")]
    for part in (*inner, *getattr(kind, "types", ()), *getattr(kind, "item_types", ())):
        if isinstance(part, inspect.Type):
            yield from numbers_in(part)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_number_has_a_largest_value(struct: type[msgspec.Struct]) -> None:
    fields = inspect.type_info(struct).fields  # type: ignore[attr-defined]
    unbounded = [
        field.name
        for field in fields
        for number in numbers_in(field.type)
        if number.le is None and number.lt is None
    ]
    assert unbounded == []

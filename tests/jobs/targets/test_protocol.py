"""Every target that we ship has the methods of the protocol, with the parameters that callers use."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from jobctl.jobs.targets.protocol import RecordKeeper, Target
from jobctl.jobs.targets.registry import BUILT_IN, TargetEntry, load_target


def methods(protocol: type[Any]) -> dict[str, Callable[..., Any]]:
    """Return the public methods that a protocol declares itself."""
    return {
        name: value for name, value in vars(protocol).items() if inspect.isfunction(value) and name[0] != "_"
    }


def parameters(method: Callable[..., Any]) -> list[tuple[str, object]]:
    """Return the names of a method's parameters and how each may be given."""
    kinds = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.kind) for parameter in kinds if parameter.name != "self"]


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_a_target_takes_what_the_protocol_says(entry: TargetEntry) -> None:
    target = load_target(entry.name)
    wanted = methods(Target)
    assert len(wanted) >= 5
    for name, method in wanted.items():
        given = parameters(getattr(target, name))
        assert given[: len(parameters(method))] == parameters(method), name


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_a_target_that_keeps_records_has_a_store(entry: TargetEntry) -> None:
    has_store = all(hasattr(load_target(entry.name), name) for name in methods(RecordKeeper))
    assert has_store == entry.keeps_records

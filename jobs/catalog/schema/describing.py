"""The description of a setting, its type in words and its default, from the schema itself."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from jobctl.jobs.catalog.schema.keys import KEYS


class Description(msgspec.Struct, frozen=True):
    """One setting."""

    key: str
    description: str
    type: str
    default: Any
    """None where the schema has none: a model has to say it."""


def describe(key: str) -> Description:
    """Return the description of a key of the schema. Raises KeyError for one that is none."""
    section = KEYS[key]
    name = key.rpartition(".")[2]
    (field,) = [field for field in _fields(section) if field.name == name]
    kind, text = _unwrapped(field.type)

    return Description(key=key, description=text, type=in_words(kind), default=_default(field))


def in_words(kind: inspect.Type) -> str:
    """Return a type for people: ``whole number``, ``one of: a, b``."""
    kind = _unwrapped(kind)[0]
    if isinstance(kind, inspect.LiteralType):
        return f"one of: {', '.join(map(str, kind.values))}"

    if isinstance(kind, inspect.UnionType):
        return " or ".join(in_words(part) for part in kind.types)

    words = {
        inspect.BoolType: "true or false",
        inspect.IntType: "whole number",
        inspect.FloatType: "number",
        inspect.StrType: "text",
        inspect.DictType: "mapping",
        inspect.NoneType: "null",
    }

    return words.get(type(kind), "list")


def _fields(section: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    kind = inspect.type_info(section)
    assert isinstance(kind, inspect.StructType)
    return kind.fields


def _unwrapped(kind: inspect.Type) -> tuple[inspect.Type, str]:
    """Return a type without its annotations, and the description that they hold."""
    text = ""
    while isinstance(kind, inspect.Metadata):
        text = text or str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type

    return kind, text


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        default = msgspec.to_builtins(field.default)
        # A YAML file has lists only.
        return list(default) if isinstance(default, tuple) else default

    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())

    return None

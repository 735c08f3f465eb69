"""Closed schemas: what a strict API server would say of an object.

``data/schemas.json`` is cut down from the published CRDs and the server's OpenAPI documents: no descriptions, equal
parts once. ``data/queueing.yaml`` is written by hand, as it says. Closed: every ``properties`` allows no other, except
where ``x-kubernetes-preserve-unknown-fields`` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DATA = Path(__file__).parent / "data"
_FILE = json.loads((DATA / "schemas.json").read_text())
KINDS: dict[str, Any] = _FILE["kinds"]
KINDS |= yaml.safe_load((DATA / "queueing.yaml").read_text())["kinds"]
DEFINITIONS: dict[str, Any] = _FILE["definitions"]
_TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
}
METADATA = {
    "name", "namespace", "labels", "annotations", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "ownerReferences", "finalizers", "managedFields",
}  # fmt: skip


class Problem(NamedTuple):
    """``what`` is unknown, type, required or value."""

    what: str
    path: str
    message: str


def problems(thing: dict[str, Any]) -> list[Problem]:
    """All that is wrong with an object of a kind that we have the schema of."""
    schema = KINDS[f"{thing['apiVersion']} {thing['kind']}"]
    return list(_check(thing, schema, ""))


def _check(value: Any, schema: dict[str, Any], path: str) -> Iterator[Problem]:
    schema = DEFINITIONS[schema["$ref"]] if "$ref" in schema else schema
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield _type(path, "string", value)
        elif isinstance(value, str):
            yield from _bounds(value, schema, path)
        return
    wanted = schema.get("type")
    if wanted and (
        not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")
    ):
        yield _type(path, wanted, value)
        return
    yield from _bounds(value, schema, path)
    if isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check(item, schema.get("items", {}), f"{path}[{index}]")


def _object(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[Problem]:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield Problem("required", f"{path}.{name}".lstrip("."), "Required value")
    for key, item in value.items():
        here = f"{path}.{key}".lstrip(".")
        if here == "metadata" or here.endswith("template.metadata"):
            yield from (Problem("unknown", f"{here}.{k}", "") for k in item if k not in METADATA)
        elif key in known:
            yield from _check(item, known[key], here)
        elif isinstance(rest, dict):
            yield from _check(item, rest, here)
        elif known and not schema.get("x-kubernetes-preserve-unknown-fields") and not rest:
            yield Problem("unknown", here, "")


def _bounds(value: Any, schema: dict[str, Any], path: str) -> Iterator[Problem]:
    if "minimum" in schema and value < schema["minimum"]:
        yield Problem("value", path, f"Invalid value: {value}: should be at least {schema['minimum']}")
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits and isinstance(value, int) and not -(2**bits) <= value < 2**bits:
        yield Problem("value", path, f"Invalid value: {value}: does not fit in {schema['format']}")
    if "enum" in schema and value not in schema["enum"]:
        yield Problem("value", path, f"Unsupported value: {json.dumps(value)}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield Problem("value", path, f"Invalid value: {json.dumps(value)}")
    if "maximum" in schema and value > schema["maximum"]:
        yield Problem("value", path, f"Invalid value: {value}: should be at most {schema['maximum']}")
    for many, few, types in (("maxLength", "minLength", str), ("maxItems", "minItems", list)):
        if isinstance(value, types) and len(value) > schema.get(many, len(value)):
            yield Problem("value", path, "Too long" if types is str else "Too many")
        if isinstance(value, types) and len(value) < schema.get(few, 0):
            yield Problem("value", path, "Too short" if types is str else "Too few")


def _type(path: str, wanted: str, value: Any) -> Problem:
    is_ = next((name for name, types in _TYPES.items() if type(value) in (types, *_as_tuple(types))), "null")
    return Problem("type", path, f'Invalid value: "{is_}": {path} in body must be of type {wanted}: "{is_}"')


def _as_tuple(types: Any) -> tuple[Any, ...]:
    return types if isinstance(types, tuple) else (types,)

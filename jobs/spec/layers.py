"""Layers of settings: where each stands, how they merge, and how the merged keys become typed sections."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from jobctl.jobs.catalog import flags
from jobctl.jobs.catalog.loader import line_of, parse_yaml
from jobctl.jobs.catalog.schema import SECTIONS
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.validation import expected, in_words

KEYS: dict[str, type[msgspec.Struct]] = {
    key: section for section in SECTIONS for key in section.__struct_fields__
}


class Layer(msgspec.Struct, frozen=True):
    """Settings of one origin. ``file`` and ``path`` say where they stand, for error messages."""

    name: str
    settings: Mapping[str, Any]
    file: str = ""
    path: tuple[str | int, ...] = ("settings",)
    is_limit: bool = False
    """Whether these are limits of the hardware: a value of theirs is a note to the user."""
    by_user: bool = False
    """Whether the user set these values for this job, in the project file or on the command line."""

    def where(self, key: str) -> str:
        """``file:line`` of ``key``, or the layer's name where it has no file."""
        if not self.file:
            return self.name
        text = Path(self.file).read_text(encoding="utf-8")
        return f"{self.file}:{line_of(text, *self.path, *key.split('.'))}"


def parse_set(assignment: str, source: str = "--set") -> tuple[str, Any]:
    """``key=value`` as a key and a YAML value; a key whose type is text keeps its value as it stands."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UserError(f"{source} {assignment!r}: not of the form key=value")

    head = key.split(".")[0]
    if head not in KEYS:
        raise UserError(f"{source} {assignment!r}: unknown key '{head}'; {nearest(head, KEYS)}")

    if "." in key or _is_text(head):
        return key, text

    return key, parse_yaml(text, f"{source} {key}")


@functools.cache
def _is_text(key: str) -> bool:
    return get_type_hints(KEYS[key])[key] is str


def parse_trainer_flags(words: tuple[str, ...]) -> dict[str, Any]:
    """The trainer's own flags as settings."""
    return flags.settings(flags.pairs(words)) if words else {}


def merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[str, Layer]]:
    """Values and origins by flat key, later layers winning; mappings merge key by key, ``env.X`` names one of them.

    Raises UserError for a key that no section declares, with its file, line and the nearest right one.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Layer] = {}
    for layer in layers:
        for key, value in layer.settings.items():
            head, _, rest = key.partition(".")
            if head not in KEYS:
                raise UserError(f"{layer.where(key)}: unknown key '{head}'; {nearest(head, KEYS)}")

            if rest:
                value = {rest: value}

            if isinstance(value, dict):
                before = values.get(head)
                values[head] = {**(before if isinstance(before, dict) else {}), **value}
                origins.update((f"{head}.{name}", layer) for name in value)
            else:
                values[head] = value

            origins[head] = layer

    return values, origins


def section(kind: type[Any], values: Mapping[str, Any], origins: Mapping[str, Layer]) -> Any:
    """The keys of ``kind`` among ``values`` as a typed struct; a UserError says where a wrong value stands."""
    settings = {key: values[key] for key in kind.__struct_fields__ if key in values}
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        _refuse_value(kind, settings, origins)
        # Every value that is there is right, so one is missing.
        raise UserError(f"{in_words(str(error))}; no layer sets it") from None


def _refuse_value(kind: type[Any], settings: Mapping[str, Any], origins: Mapping[str, Layer]) -> None:
    """Raise UserError for the first value of ``settings`` that is wrong by itself."""
    for key, hint in get_type_hints(kind, include_extras=True).items():
        if key not in settings:
            continue

        try:
            msgspec.convert(settings[key], hint)
        except msgspec.ValidationError:
            where = origins[key].where(key)
            raise UserError(f"{where}: {key} is {settings[key]!r}; it must be {expected(hint)}") from None

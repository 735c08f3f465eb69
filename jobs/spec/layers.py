"""Layers of settings: find their lines in files, merge them, and turn the merged keys into typed sections."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import msgspec

from jobctl.jobs.catalog import flags
from jobctl.jobs.catalog.loader import line_of, parse_yaml
from jobctl.jobs.catalog.schema import KEYS, SITE_SECTIONS, Site
from jobctl.jobs.catalog.schema.keys import OLD_NAMES, nearest_key, split_key
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import read_text_file
from jobctl.jobs.core.validation import expected, in_words


class Layer(msgspec.Struct, frozen=True):
    """Settings of one origin. ``file`` and ``path`` give their place for error messages."""

    name: str
    settings: Mapping[str, Any]
    file: str = ""
    path: tuple[str | int, ...] = ("settings",)
    is_limit: bool = False
    """True for the limits of the hardware. A value that comes from them makes a note to the user."""
    by_user: bool = False
    """True for values that the user set for this job, in the project file or on the command line."""

    def where(self, key: str) -> str:
        """Return ``file:line`` of ``key``, or the layer's name if it has no file."""
        if not self.file:
            return self.name

        # Read the file again, only for a message: the parsed settings have no line numbers.
        text = read_text_file(self.file)
        return f"{self.file}:{line_of(text, *self.path, *self._path_of(key))}"

    def _path_of(self, key: str) -> list[str]:
        """Return the path of ``key`` in the settings, with the spelling of the file."""
        for spelled in self.settings:
            name, entry = split_key(spelled)
            if key in (name, f"{name}.{entry}"):
                return [spelled]

            if not entry and key.startswith(f"{name}."):
                return [spelled, *key[len(name) + 1 :].split(".")]

        return key.split(".")

    def entries(self) -> Iterator[tuple[str, str, Any]]:
        """Yield each setting: its key, the entry of its mapping if it names one, and its value.

        Raises UserError for an unknown key, with its file, its line and the nearest known key.
        """
        for spelled, value in self.settings.items():
            key, entry = split_key(spelled)
            if key in SITE_SECTIONS:
                yield from self._section_entries(key, value)
            elif key in KEYS:
                yield key, entry, value
            else:
                raise UserError(f"{self.where(spelled)}: unknown key '{key}'; {nearest_key(key)}")

    def _section_entries(self, section: str, settings: Any) -> Iterator[tuple[str, str, Any]]:
        if settings is None:  # all of its lines are comments
            return

        if not isinstance(settings, dict):
            keys = ", ".join(SITE_SECTIONS[section].__struct_fields__)
            raise UserError(f"{self.where(section)}: {section} must be a section with keys: {keys}")

        for spelled, value in settings.items():
            key, entry = split_key(f"{section}.{spelled}")
            if key not in KEYS:
                raise UserError(f"{self.where(key)}: unknown key '{key}'; {nearest_key(key)}")

            yield key, entry, value

    def old_names(self) -> dict[str, str]:
        """Return each setting with an old spelling, from before a site had sections, and its new name."""
        return {key: OLD_NAMES[key] for key in self.settings if key in OLD_NAMES}


def parse_set(assignment: str, source: str = "--set") -> tuple[str, Any]:
    """Return ``key=value`` as a key of the schema and a YAML value. A text value stays unchanged."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UserError(f"{source} {assignment!r}: not of the form key=value")

    name, entry = split_key(key)
    if name in SITE_SECTIONS:
        example = next(key for key in KEYS if key.startswith(f"{name}."))
        raise UserError(
            f"{source} {assignment!r}: '{name}' is a section; set one of its keys, for example {example}=…"
        )

    if name not in KEYS:
        raise UserError(f"{source} {assignment!r}: unknown key '{name}'; {nearest_key(name)}")

    if entry:
        # An entry of a mapping is text: `env.DEBUG=1` must not become a number.
        return f"{name}.{entry}", text

    # Do not parse text: a partition called 1e3 or null is a name.
    return name, text if _is_text(name) else parse_yaml(text, f"{source} {key}")


@functools.cache
def _is_text(key: str) -> bool:
    return get_type_hints(KEYS[key])[key.rpartition(".")[2]] is str


def parse_trainer_flags(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the trainer's flags as settings."""
    return flags.settings(flags.pairs(words)) if words else {}


def merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[str, Layer]]:
    """Return values and origins by key. A later layer wins.

    Mappings merge entry by entry, and ``env.X`` names one entry. Raises UserError for an unknown key. Raises
    it also if one layer sets a key twice, under its old and its new name.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Layer] = {}
    # From weak to strong: a later layer overwrites what an earlier one has set.
    for layer in layers:
        spelled: set[tuple[str, str]] = set()
        for key, entry, value in layer.entries():
            if (key, entry) in spelled:
                raise UserError(f"{layer.where(key)}: {key} is set twice: by its name and by its old name")

            spelled.add((key, entry))
            if entry:
                value = {entry: value}

            # A mapping extends that of the weaker layer, so that a layer can change one variable of `env`.
            if isinstance(value, dict):
                before = values.get(key)
                values[key] = {**(before if isinstance(before, dict) else {}), **value}
                origins.update((f"{key}.{name}", layer) for name in value)
            else:
                values[key] = value

            origins[key] = layer

    return values, origins


def site_of(values: Mapping[str, Any], origins: Mapping[str, Layer]) -> Site:
    """Return the site's settings among ``values``. Raises UserError with the place of a wrong value."""
    # The general keys come first: `values` has the keys of the sections only with a prefix.
    general: Site = section(Site, values, origins)
    sections = {
        name: section(kind, values, origins, prefix=f"{name}.") for name, kind in SITE_SECTIONS.items()
    }
    return msgspec.structs.replace(general, **sections)


def section(
    kind: type[Any], values: Mapping[str, Any], origins: Mapping[str, Layer], prefix: str = ""
) -> Any:
    """Return the keys of ``kind`` among ``values`` as a typed struct. Each key begins with ``prefix``.

    Raises UserError with the place of a wrong value.
    """
    settings = {key: values[prefix + key] for key in kind.__struct_fields__ if prefix + key in values}
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        # msgspec's own error does not know which layer set the value, so each value is tried alone.
        _refuse_value(kind, settings, origins, prefix)
        # Every given value is right, so a value is missing.
        raise UserError(f"{in_words(str(error))}; no layer sets it") from None


def _refuse_value(
    kind: type[Any], settings: Mapping[str, Any], origins: Mapping[str, Layer], prefix: str
) -> None:
    """Raise UserError for the first value of ``settings`` that is wrong by itself."""
    for key, hint in get_type_hints(kind, include_extras=True).items():
        if key not in settings:
            continue

        try:
            msgspec.convert(settings[key], hint)
        except msgspec.ValidationError:
            name = prefix + key
            place = origins[name].where(name)
            raise UserError(f"{place}: {name} is {settings[key]!r}; it must be {expected(hint)}") from None

"""Read the catalogue's YAML into typed entries. An error names the file, the line and the key."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import yaml

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.entries import FamilyEntry, HardwareEntry, LayerEntry, ModelEntry
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.reading import read_text_file
from jobctl.jobs.core.validation import in_words

CATALOG = Path(__file__).resolve().parent
KINDS = {
    "models": "model",
    "hardware": "hardware",
    "tiers": "tier",
    "stages": "stage",
    "datasets": "data set",
    "tokenizers": "tokenizer",
    "sites": "site",
    "families": "model family",
}
Entry = TypeVar("Entry")
DEPTH = 64
"""The deepest nesting of YAML. Settings files have about four levels."""
NODES = 100_000
"""The largest number of values in a YAML file. A value that an alias repeats counts each time."""


# The C loader is faster, but not every build of PyYAML has it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader for the scalars of YAML 1.2. It refuses a key that occurs twice.

    ``3e-4`` is a number; ``24:00:00`` and ``on`` are text. The usual loader of PyYAML reads YAML 1.1, in
    which ``24:00:00`` is 86400, ``on`` is true and ``3e-4`` is text.
    """

    # Empty: otherwise the patterns below would be added to those of PyYAML.
    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key}' occurs twice", problem_mark=key_node.start_mark
                )

            seen.add(key)

        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)

        return mapping


# The last column has first characters: PyYAML tries a pattern only on values that begin with one of them.
for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false|True|False", list("tfTF")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.inf|\.nan",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Construct an integer of YAML 1.2. PyYAML would read 010 as octal, and could not read 08."""
    try:
        return int(str(node.value).replace("_", ""))
    except ValueError:  # Python refuses to convert thousands of digits
        raise yaml.MarkedYAMLError(
            problem="a number with too many digits", problem_mark=node.start_mark
        ) from None


def _finite_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    """Construct a finite float. No setting may be infinity or NaN."""
    value = float(loader.construct_yaml_float(node))
    if not math.isfinite(value):
        raise yaml.MarkedYAMLError(
            problem=f"{node.value} is not a finite number", problem_mark=node.start_mark
        )
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:float", _finite_float)


def parse_yaml(text: str, origin: str) -> Any:
    """Return parsed YAML. ``origin`` names the file in the messages of errors.

    Raises UserError for a syntax error, for too deep a nesting, and for aliases that would make it too large.
    """
    try:
        # Check before anything is built: with aliases a few lines can fill the memory.
        _refuse_bombs(text, origin)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}:{mark.line + 1}" if mark else origin
        raise UserError(f"{place}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{origin}: not YAML: {error}") from None


def _refuse_bombs(text: str, origin: str) -> None:
    """Refuse YAML that is too deep or too large.

    Read only events, because the loader itself is recursive.
    """
    sizes = [0]  # nodes of each open collection, with its aliases expanded
    anchors: list[str | None] = [None]
    known: dict[str, int] = {}

    for event in yaml.parse(text, Loader=_Loader):
        place = f"{origin}:{event.start_mark.line + 1}" if event.start_mark else origin
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            anchors.append(event.anchor)
            if len(sizes) > DEPTH:
                raise UserError(
                    f"{place}: nested deeper than {DEPTH} levels",
                    hint="a settings file is much simpler; check the path",
                )

            # The collection above it counts these values when they end.
            continue

        if isinstance(event, yaml.CollectionEndEvent):
            size = sizes.pop()
            if anchor := anchors.pop():
                known[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            # An alias counts with all values that it repeats.
            size = known.get(event.anchor or "", 1)

        sizes[-1] += size
        if sizes[-1] > NODES:
            raise UserError(
                f"{place}: more than {NODES} values", hint="a settings file is much simpler; check the path"
            )


def line_of(text: str, *path: str | int) -> int:
    """Return the line (from 1) of the key or item at ``path`` in YAML text.

    If it does not exist, return the line of the deepest part that does.
    """
    node = yaml.compose(text, Loader=_Loader)
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == str(step)]
            if not pairs:
                break

            line = pairs[0][0].start_mark.line + 1
            node = pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break

    return line


def convert(data: Any, kind: type[Entry], text: str, origin: str) -> Entry:
    """Return ``data`` as ``kind``. Raises UserError with the file, the line and the key of a wrong value.

    ``text`` is the YAML from which ``data`` came.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message, _, location = str(error).partition(" - at `")
        path: list[str | int] = [
            int(index) if index else name for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", location)
        ]
        # msgspec gives the place of the mapping. The wrong key is only in its message.
        unknown = re.search(r"unknown field `(.+)`", message)
        if unknown:
            path.append(unknown[1])
            fields = getattr(kind, "__struct_fields__", ())
            message = f"unknown key '{unknown[1]}'; {nearest(unknown[1], fields)}"

        key = ".".join(str(part) for part in path)
        place = f"{origin}:{line_of(text, *path)}"
        raise UserError(": ".join(part for part in (place, key, in_words(message)) if part)) from None


@functools.cache
def names(kind: str) -> list[str]:
    """Return the sorted names of the catalogue's entries of ``kind``, which is the name of a folder."""
    return sorted(path.stem for path in (CATALOG / kind).glob("*.yaml"))


@functools.cache
def entry_path(kind: str, name: str) -> Path:
    """Return the file of an entry. Raises UserError with the nearest name if the entry does not exist."""
    path = CATALOG / kind / f"{name}.yaml"
    if name not in names(kind):
        known = names(kind)
        raise UserError(
            f"unknown {KINDS[kind]} '{name}'; {nearest(name, known)}", hint=f"jobctl catalog list {kind}"
        )

    return path


_loaded: dict[tuple[str, str], Any] = {}


def load_entry(kind: str, name: str, entry: type[Entry]) -> Entry:
    """Return the entry ``name`` of ``kind``. Its file is read only once.

    Example: ``load_entry("tokenizers", "gpt2", TokenizerEntry)``.
    """
    if (kind, name) not in _loaded:
        _loaded[kind, name] = load_file(entry_path(kind, name), entry)
    loaded: Entry = _loaded[kind, name]
    return loaded


def load_file(path: Path, entry: type[Entry], *, hint: str = "") -> Entry:
    """Return a YAML file, of the user or of the catalogue, as ``entry``.

    Raises UserError, with ``hint`` if the file cannot be read.
    """
    text = read_text_file(path, hint=hint)
    return convert(parse_yaml(text, str(path)), entry, text, str(path))


_declared: dict[str, FamilyEntry] = {}
"""Families from outside the catalogue."""


def declare_family(name: str, facts: FamilyEntry) -> None:
    """Add a family whose facts are not in ``families/``. Its module calls this when it is imported."""
    _declared[name] = facts


def family_names() -> list[str]:
    """Return the sorted names of all families: those of the catalogue and the declared ones."""
    return sorted({*names("families"), *_declared})


def load_family(name: str) -> FamilyEntry:
    """Return the facts of a family. Raises UserError with the nearest name if the family does not exist."""
    if name in _declared:
        return _declared[name]

    if name not in names("families"):
        raise UserError(
            f"unknown architecture '{name}'; {nearest(name, family_names())}",
            hint="jobctl catalog list families",
        )

    return load_entry("families", name, FamilyEntry)


class Model(msgspec.Struct, frozen=True):
    """A model for the trainer: its architecture, and the keys of TrainConfig that its recipe sets."""

    name: str
    config: ModelConfig
    train: dict[str, Any]


def load_model(name: str) -> Model:
    """Return the model ``name`` with its recipe, but without settings of hardware, tier and stage."""
    entry = load_entry("models", name, ModelEntry)
    origin = entry_path("models", name)
    text = origin.read_text(encoding="utf-8")
    architecture = {k: v for k, v in entry.settings.items() if k in ModelConfig.__struct_fields__}
    recipe = {k: v for k, v in entry.settings.items() if k in TrainConfig.__struct_fields__}
    config = convert(architecture, ModelConfig, text, str(origin))
    # Only to check it. The recipe stays a mapping, because flags are merged into it later.
    convert(recipe, TrainConfig, text, str(origin))
    # Called here for the file and the line. `load_family` knows only the name.
    check_family(config.architecture, text, str(origin))

    return Model(name, config, recipe)


def check_family(architecture: str, text: str, origin: str) -> None:
    """Raise UserError with file and line if a model's YAML names an unknown family."""
    try:
        load_family(architecture)
    except UserError as error:
        line = line_of(text, "settings", "architecture")
        raise UserError(f"{origin}:{line}: {error.message}", hint=error.hint) from None


def load_hardware(name: str) -> HardwareEntry:
    return load_entry("hardware", name, HardwareEntry)


def load_layer(kind: str, name: str) -> LayerEntry:
    return load_entry(kind, name, LayerEntry)


def peak_flops(device_name: str, dtype: str = "bfloat16") -> tuple[float, str] | None:
    """Return the dense peak of a GPU in FLOP/s, and the GPU's name in the catalogue.

    ``device_name`` is the driver's name for the GPU. Return None if the catalogue does not know the GPU or
    its peak at ``dtype``.
    """
    for name in names("hardware"):
        facts = load_hardware(name).facts
        if is_device(facts.device, device_name) and dtype in facts.peak_tflops:
            return facts.peak_tflops[dtype] * 1e12, name

    return None

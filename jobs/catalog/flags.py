"""Read the trainer's command-line flags by the schema. The trainer uses it, and ``jobctl … -- FLAGS``."""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.validation import expected

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")
NO_FLAGS: Mapping[str, str] = {}
FLASH_ATTENTION = "flash_attn"
"""The older spelling of ``--attention_backend=flash_attn_2`` in the guide."""


@functools.cache
def schema_fields() -> dict[str, tuple[Any, str]]:
    """Return the type and the help of each field of ModelConfig and TrainConfig, by name."""
    fields = {}
    for struct in (ModelConfig, TrainConfig):
        for name, hint in typing.get_type_hints(struct, include_extras=True).items():
            meta = next(m for m in hint.__metadata__ if isinstance(m, msgspec.Meta))
            fields[name] = (hint, meta.description or "")

    return fields


def is_boolean(name: str) -> bool:
    known = schema_fields()
    return name == FLASH_ATTENTION or (name in known and typing.get_args(known[name][0])[0] is bool)


def boolean(name: str, text: str) -> bool:
    """Return the truth value of a text such as ``True``, ``false``, ``1`` or ``off``."""
    # The guide writes True and False. YAML writes true and false.
    if text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    raise UserError(f"--{name}={text}: expected True or False")


def convert(name: str, text: str, hint: Any) -> Any:
    """Return ``text`` as a value of the type ``hint``, after a check of its bounds."""
    if is_boolean(name):
        return boolean(name, text)

    try:
        value = msgspec.convert(text, hint, strict=False)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name}={text}: expected a finite number")

        return value
    except msgspec.ValidationError:
        choices = [c for arg in typing.get_args(hint) for c in typing.get_args(arg)]
        raise UserError(
            f"--{name}={text}: it must be {expected(hint)}", hint=nearest(text, choices) if choices else ""
        ) from None


def pairs(
    arguments: Sequence[str], others: Collection[str] = (), standalone: Mapping[str, str] = NO_FLAGS
) -> list[tuple[str, str]]:
    """Split ``--x=1 --y 2 --flag --no-flag`` into names and texts. A bare boolean is ``true``.

    ``others`` are flags with a value that the schema does not have. A flag of ``standalone`` may come without
    a value. Its value is then the one in ``standalone``. Raises UserError for any other name.
    """
    known = {*schema_fields(), *others, FLASH_ATTENTION}
    given = []
    rest = list(arguments)

    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            hint = "write every flag with -- in front"
            if word.endswith(".py"):
                hint = "use --model NAME instead of the guide's config/NAME.py"

            raise UserError(f"unexpected argument '{word}'", hint=hint)

        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals and name.startswith("no_") and is_boolean(name[3:]):
            name = name[3:]
            text = "false"
        elif name not in known:
            raise UserError(f"unknown flag --{name}; {nearest(name, known)}")
        elif not equals and is_boolean(name):
            # The guide writes `--compile True` as well as `--compile`.
            text = rest.pop(0) if rest and rest[0].lower() in TRUE + FALSE else "true"
        elif not equals and name in standalone and (not rest or rest[0].startswith("--")):
            text = standalone[name]
        elif not equals:
            if not rest:
                raise UserError(f"--{name} needs a value")

            text = rest.pop(0)

        given.append((name, text))

    return given


def separate(arguments: Sequence[str], options: Collection[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the words for jobctl and the flags for the trainer.

    ``options`` are options of jobctl, such as ``--model``. They win over a flag of the same name. Everything
    after ``--`` stays unchanged.
    """
    words: list[str] = []
    flags: list[str] = []
    rest = list(arguments)

    while rest:
        word = rest.pop(0)
        if word == "--":
            return words, [*flags, *rest]

        name, equals, _ = word[2:].partition("=")
        name = name.replace("-", "_")
        # Keep the dashes as typed, because an option of jobctl must match letter by letter.
        option = word.partition("=")[0]
        if not word.startswith("--") or option in options or not _is_flag(name):
            words.append(word)
            continue

        flags.append(word)
        takes_value = not equals and not is_boolean(name) and not _is_negated(name)
        is_truth = not equals and bool(rest) and rest[0].lower() in TRUE + FALSE
        if rest and (takes_value or (is_boolean(name) and is_truth)):
            flags.append(rest.pop(0))

    return words, flags


def _is_flag(name: str) -> bool:
    return name in schema_fields() or name == FLASH_ATTENTION or _is_negated(name)


def _is_negated(name: str) -> bool:
    return name.startswith("no_") and is_boolean(name[3:])


def settings(given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields of ModelConfig and TrainConfig among ``given``, with their types."""
    known = schema_fields()
    values = {}
    for name, text in given:
        if name == FLASH_ATTENTION:
            values["attention_backend"] = "flash_attn_2" if boolean(name, text) else "sdpa"
        elif name in known:
            values[name] = convert(name, text, known[name][0])

    return values

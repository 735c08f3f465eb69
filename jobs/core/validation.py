"""Say in plain words what a value must be. msgspec's own messages name Python's types and patterns."""

from __future__ import annotations

import argparse
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from jobctl.jobs.core.bounds import MOST

_SIMPLE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "nothing",
}
_NAMES = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a mapping",
    "`null`": "nothing",
}


def expected(hint: Any) -> str:
    """Return what a value of the type ``hint`` must be: ``a whole number of at least 1``.

    For a text with a pattern this is the description of its ``Meta``, because few people read patterns.
    """
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    plain = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    for meta in metas:
        if meta.pattern is not None:
            return meta.description or f"text of the form {meta.pattern}"

    bounds = [text for meta in metas for text in _bounds(meta)]
    return " ".join([_plain(plain), *bounds])


def _plain(hint: Any) -> str:
    if isinstance(hint, type) and hint in _SIMPLE:
        return _SIMPLE[hint]

    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)

    if origin in (typing.Union, types.UnionType):
        # A user leaves a key out and does not write null.
        return " or ".join(expected(choice) for choice in arguments if choice is not type(None))

    if origin in (list, tuple) and arguments:
        return f"a list, each item {expected(arguments[0])}"

    if origin is dict:
        return f"a mapping from names to values, each value {expected(arguments[1])}"

    return getattr(hint, "__name__", str(hint))


def _bounds(meta: msgspec.Meta) -> list[str]:
    words = (
        ("of at least", meta.ge),
        ("above", meta.gt),
        ("of at most", meta.le),
        ("below", meta.lt),
    )

    bounds = [f"{word} {bound}" for word, bound in words if bound is not None]
    return [" and ".join(bounds)] if bounds else []


def in_words(message: str) -> str:
    """Return a message of msgspec without Python's words. Use it for values whose type is unknown."""
    wrong_type = re.fullmatch(r"Expected `([a-z |]+)`(.*), got (`[a-z]+`)", message)
    if wrong_type:
        kinds = [f"`{kind}`" for kind in wrong_type[1].split(" | ") if kind != "null"] or ["`null`"]
        right = " or ".join(_NAMES.get(kind, kind) for kind in kinds)
        wrong = _NAMES.get(wrong_type[3], wrong_type[3])
        return f"must be {right}{wrong_type[2]}, not {wrong}"

    missing = re.fullmatch(r"Object missing required field `(.+)`", message)
    if missing:
        return f"the key '{missing[1]}' is missing"

    no_choice = re.fullmatch(r"Invalid enum value (.+)", message)
    if no_choice:
        return f"{no_choice[1]} is not one of the allowed values"

    # Any other message keeps its words, except for the names of types.
    for name, words in _NAMES.items():
        message = message.replace(name, words)

    return re.sub(r"^Expected ", "must be ", message)


def whole_number(least: int, most: int = MOST) -> Callable[[str], int]:
    """Return an argparse type that accepts a whole number from ``least`` to ``most``."""

    def convert(text: str) -> int:
        # Python refuses to convert text with thousands of digits.
        is_whole = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not is_whole or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {least} and of at most {most}, not {text!r}"
            )

        return int(text)

    return convert

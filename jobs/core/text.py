"""Make text from other sources safe to print: characters that control a terminal become visible."""

from __future__ import annotations

import re

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line break: escape codes begin with one
    "\u200e\u200f\u2028-\u202e\u2066-\u2069"  # marks that turn the direction of writing, or end a line
    "\ud800-\udfff]"  # halves of a character: bytes that were no text
)
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")


def visible(text: str) -> str:
    """Return ``text`` with each character that controls a terminal replaced by its code.

    Line breaks and tabs stay.
    """
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def visible_but_colours(line: str) -> str:
    """Do the same as ``visible`` for one line of a program's output, but keep its colours.

    The colours end at the end of the line.
    """
    if "\x1b" not in line:
        return visible(line)

    parts = [visible(part) for part in _COLOUR.split(line)]
    colours = _COLOUR.findall(line)
    text = "".join(part + colour for part, colour in zip(parts, [*colours, ""], strict=True))
    return f"{text}\x1b[0m" if colours else text

"""The output of commands: JSON for machines, text for people, warnings on standard error."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from jobctl.jobs.core.text import visible

STANDARD_OUTPUT = "-"
"""The name that means standard output instead of a file."""
SLOW_SECONDS = 3.0
"""The longest time without a message, in seconds."""


def emit(facts: Any, as_json: bool, text: str) -> None:
    """Print ``facts`` as JSON, or ``text``."""
    if as_json:
        # `say` is not needed: JSON writes control characters as codes.
        click.echo(json.dumps(msgspec.to_builtins(facts), indent=1))
    elif text:
        say(text)


def say(text: str, *, err: bool = False) -> None:
    """Print text for people. Foreign text in it cannot control the terminal."""
    click.echo(visible(text), err=err)


def warn(messages: Iterable[str]) -> None:
    for message in messages:
        # Standard output may be a script or JSON for another program.
        say(f"jobctl: note: {message}", err=True)


@contextlib.contextmanager
def said_when_slow(text: str) -> Iterator[None]:
    """Print ``text`` on standard error if the work inside takes long.

    A user does not wait longer than ``SLOW_SECONDS`` without a message.
    """
    timer = threading.Timer(SLOW_SECONDS, lambda: say(f"jobctl: {text}", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return columns that are as wide as their widest cell, two spaces apart."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )

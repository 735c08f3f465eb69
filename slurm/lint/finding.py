"""A mistake in a script, and its severity."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning", "hint"]


class Finding(msgspec.Struct, frozen=True):
    """One mistake: its line (0: the whole script), what is wrong, and what to write instead."""

    line: int
    rule: str
    severity: Severity
    message: str
    fix: str


def error(line: int, rule: str, message: str, fix: str) -> Finding:
    """Return a mistake that certainly goes wrong."""
    return Finding(line, rule, "error", message, fix)


def warning(line: int, rule: str, message: str, fix: str) -> Finding:
    """Return a mistake that goes wrong on some clusters or in some jobs."""
    return Finding(line, rule, "warning", message, fix)


def hint(line: int, rule: str, message: str, fix: str) -> Finding:
    """Return advice."""
    return Finding(line, rule, "hint", message, fix)

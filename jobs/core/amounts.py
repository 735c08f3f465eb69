"""Write large numbers, sizes and durations in a few characters, for people. All functions are pure."""

from __future__ import annotations

MINUTE = 60
HOUR = 3600
DAY = 86400


def short_count(count: float) -> str:
    """Return a count of tokens or parameters in three digits: ``81.7B``, ``22.6M``, ``512``."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"

    return f"{count:.0f}"


def short_bytes(count: float) -> str:
    """Return a size: ``512 B``, ``12.5 kB``, ``96.2 MB`` or ``1,204.50 GB``."""
    for unit in ("B", "kB", "MB"):
        # 999.9 would be written as 1e+03.
        if count < 999.5:
            return f"{count:.3g} {unit}"

        count /= 1000

    return f"{count:,.2f} GB"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Return a count with its noun: ``1 run``, ``3 runs``. ``nouns`` is a plural that needs more than an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a duration: ``312 ms``, ``4.25 s``, ``12 min 05 s``, ``3 h 20 min`` or ``2 d 04 h``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"

    if seconds < MINUTE - 0.05:
        return f"{seconds:.3g} s"

    # Each unit is rounded before it is compared. Otherwise 59 min 59.9 s would be "60 min 00 s".
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"

    minutes = round(seconds / MINUTE)
    if minutes < DAY // MINUTE:
        return f"{minutes // 60} h {minutes % 60:02d} min"

    hours = round(seconds / HOUR)
    return f"{hours // 24} d {hours % 24:02d} h"


def clock(seconds: float) -> str:
    """Return a duration as a clock that counts: ``1d 02:03:04``.

    A duration shorter than a day is ``02:03:04``.
    """
    days, rest = divmod(round(seconds), DAY)
    hours, rest = divmod(rest, HOUR)
    return (f"{days}d " if days else "") + f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"

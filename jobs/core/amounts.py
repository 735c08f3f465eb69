"""Large numbers and durations in a few characters, for people. Pure."""

from __future__ import annotations


def short_count(count: float) -> str:
    """Return a count of tokens or parameters in three digits: ``81.7B``, ``22.6M``, ``512``."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"

    return f"{count:.0f}"


def clock(seconds: float) -> str:
    """Return a duration as ``1d 02:03:04``, or ``02:03:04`` if it is shorter than a day."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    return (f"{days}d " if days else "") + f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"

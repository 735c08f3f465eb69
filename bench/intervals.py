"""Spans of time on a GPU's streams."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[float, float]


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same time in spans that do not touch, in order."""
    result: list[Span] = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return result


def exposed(spans: Sequence[Span], beside: Sequence[Span]) -> float:
    """Time in ``spans`` during which there is none of ``beside``."""
    busy = merged(beside)
    total = 0.0
    for begin, end in merged(spans):
        covered = sum(max(0.0, min(end, b) - max(begin, a)) for a, b in busy)
        total += end - begin - covered
    return total

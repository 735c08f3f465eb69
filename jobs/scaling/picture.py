"""Draw the iso-FLOP valley: loss over size at one budget, as SVG without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from jobctl.jobs.scaling.law import Law, optimum
from jobctl.jobs.scaling.search import Candidate, valley

WIDTH = 760
HEIGHT = 460
MARGIN = 70
FACTORS = (0.25, 1.0, 4.0)
"""Factors of the budget. The neighbours show a reader in which direction the valley moves."""
COLOURS = ("#9ab", "#036", "#9ab")
Point = tuple[float, float]


class Frame:
    """The plane of the picture: log of size to the right, loss upward."""

    def __init__(self, points: Sequence[Point]) -> None:
        sizes = [math.log10(size) for size, _ in points]
        losses = [loss for _, loss in points]
        self.left = min(sizes)
        self.right = max(sizes)
        self.bottom = min(losses)
        self.top = max(losses)

    def at(self, size: float, loss: float) -> Point:
        """Return the position of a point in pixels from the top left."""
        right = (math.log10(size) - self.left) / (self.right - self.left)
        up = (loss - self.bottom) / (self.top - self.bottom)
        return MARGIN + right * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    def path(self, points: Sequence[Point]) -> str:
        """Return the ``d`` of a line through ``points``."""
        places = [self.at(*point) for point in points]
        return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in places)


def valley_svg(law: Law, flops: float, candidates: Sequence[Candidate]) -> str:
    """Return a picture of the valley at ``flops``, with the ``candidates``.

    It also shows the valleys at a quarter and at four times of it.
    """
    curves = [[(size, loss) for size, _, loss in valley(law, flops * factor)] for factor in FACTORS]
    # One frame for all curves, so that the valleys can be compared.
    frame = Frame([point for curve in curves for point in curve])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{MARGIN}" y="28" font-size="15">loss by size at {flops:.3g} FLOPs; {escape(law.summary)}</text>',
    ]

    for factor, colour, curve in zip(FACTORS, COLOURS, curves, strict=True):
        parts.append(f'<path d="{frame.path(curve)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        best = optimum(law, flops * factor)
        x, y = frame.at(best.parameters, best.loss)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="{colour}">'
            f"{best.parameters / 1e9:.3g}B, {flops * factor:.2g}</text>"
        )

    for each in candidates:
        x, y = frame.at(each.parameters, each.loss)
        parts.append(f'<path d="M{x - 4:.1f},{y:.1f} h8 M{x:.1f},{y - 4:.1f} v8" stroke="#c30"/>')

    parts += _axes(frame)
    return "\n".join([*parts, "</svg>", ""])


def _axes(frame: Frame) -> list[str]:
    """Return the axes with a few marks each."""
    bottom = HEIGHT - MARGIN
    parts = [f'<path d="M{MARGIN},{MARGIN} V{bottom} H{WIDTH - MARGIN}" fill="none" stroke="#333"/>']
    for index in range(5):
        share = index / 4
        size = 10 ** (frame.left + share * (frame.right - frame.left))
        x, _ = frame.at(size, frame.bottom)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{size / 1e9:.2g}B</text>')

        loss = frame.bottom + share * (frame.top - frame.bottom)
        _, y = frame.at(size, loss)
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:.3f}</text>')

    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 20}" text-anchor="middle">parameters; loss, nats a token, upward</text>'
    )
    return parts

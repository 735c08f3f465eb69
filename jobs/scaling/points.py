"""Read the points for a fit from a CSV file. Its columns may have any of the usual names."""

from __future__ import annotations

import csv
import io

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.fitting import Point
from jobctl.jobs.scaling.law import FLOPS

COLUMNS = {
    "parameters": ("parameters", "params", "n", "model size"),
    "tokens": ("tokens", "d", "training tokens"),
    "loss": ("loss", "l", "validation loss", "val_loss"),
    "flops": ("flops", "c", "training flop", "training flops"),
    "name": ("name", "run"),
}
"""The names that a column may have, in small letters."""


def parse_points(text: str, origin: str) -> list[Point]:
    """Return the points of a CSV file with a header. A file with FLOPs needs no tokens: they are C / 6N.

    Raises UserError for a missing column, and for a value that is not a number, with its line.
    """
    reader = csv.reader(io.StringIO(text))
    header = [cell.strip().lower() for cell in next(reader, [])]
    places = {
        name: header.index(spelling)
        for name, spellings in COLUMNS.items()
        for spelling in spellings
        if spelling in header
    }

    absent = [name for name in ("parameters", "loss") if name not in places]
    if "tokens" not in places and "flops" not in places:
        absent.append("tokens")

    if absent:
        raise UserError(
            f"{origin}: no column for {', '.join(absent)}; it has {', '.join(header) or 'no header'}",
            hint="the first line names the columns: parameters,tokens,loss",
        )

    # An empty line is not a point.
    return [_point(row, places, f"{origin}:{reader.line_num}") for row in reader if any(row)]


def _point(row: list[str], places: dict[str, int], where: str) -> Point:
    def number(name: str) -> float:
        try:
            return float(row[places[name]])
        except (ValueError, IndexError):
            raise UserError(f"{where}: {name} is no number") from None

    parameters = number("parameters")
    # A size of 0 is refused later with a message. Here it must not be a divisor.
    tokens = number("tokens") if "tokens" in places else number("flops") / FLOPS / (parameters or 1.0)
    name = row[places["name"]].strip() if "name" in places and len(row) > places["name"] else where
    return Point(parameters=parameters, tokens=tokens, loss=number("loss"), name=name)

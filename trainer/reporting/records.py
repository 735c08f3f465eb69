"""Lines of the run log with only the values that equal trainings share."""

from __future__ import annotations

from typing import Any


def iteration_record(
    step: int, rate: float, samples: int, loss: float, norm: float, skipped: bool
) -> dict[str, Any]:
    """Return the log's line of one step: only facts that the same training gives every time."""
    return {
        "kind": "iteration",
        "iter": step,
        "loss": number(loss),
        "lr": rate,
        "grad_norm": number(norm),
        "samples": samples,
        "skipped": skipped,
    }


def number(value: float) -> float | str:
    """JSON has no NaN; such a loss is text."""
    return value if abs(value) < float("inf") else str(value)

"""Shorten the warning before a time limit if the limit is short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobctl.jobs.catalog.schema import Resources
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.spec.job_spec import seconds
from jobctl.jobs.spec.layers import Layer

EARLY_SECONDS = 60
"""Slurm may send its warning up to this many seconds too early (sbatch(1), --signal)."""
LEAST_SECONDS = 20
"""The shortest useful warning, in seconds."""
SHARE = 3
"""The divisor for a short limit: a third of it is for the warning."""


def grace_layer(kind: JobKind, values: Mapping[str, Any], origins: Mapping[str, Layer]) -> Layer | None:
    """Return a layer with a shorter warning if the usual one would come before the job has begun.

    Return None if the warning fits, or if the job does not need it. Raises UserError if the user chose a
    warning that does not fit: such a job would be stopped and requeued without a single step.
    """
    limit_text = values.get("time_limit", Resources().time_limit)
    grace = values.get("stop_grace_seconds", Resources().stop_grace_seconds)
    if kind.at_warning == "continue" or not isinstance(limit_text, str) or not isinstance(grace, int):
        return None

    try:
        limit = seconds(limit_text)
    except ValueError:
        # The check of all values comes later, and its message names the file and the line.
        return None

    # Even if the warning comes early, the job has begun before it.
    if limit > grace + EARLY_SECONDS:
        return None

    chosen = origins.get("stop_grace_seconds")
    if chosen is not None and chosen.by_user:
        raise UserError(
            f"stop_grace_seconds {grace} leaves no time to run in time_limit {limit_text}: Slurm may send "
            f"the warning {EARLY_SECONDS} s early",
            hint=f"use less than {max(0, limit - EARLY_SECONDS)}; without this key jobctl uses a third of "
            "the limit",
        )

    shorter = max(LEAST_SECONDS, (limit - EARLY_SECONDS) // SHARE)
    return Layer("short time limit", {"stop_grace_seconds": shorter})


def grace_in_words(layer: Layer | None) -> list[str]:
    """Return the message about a shorter warning, or an empty list if the warning is not shorter."""
    if layer is None:
        return []

    shorter = layer.settings["stop_grace_seconds"]
    return [
        f"the time limit is short, so jobctl warns the job {shorter} s before its end (stop_grace_seconds)"
    ]

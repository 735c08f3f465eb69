"""Events of a run between two looks that a user wants to hear about. Pure."""

from __future__ import annotations

import math

import msgspec

from jobctl.jobs.monitoring.glance import Glance
from jobctl.jobs.monitoring.glance_text import line
from jobctl.jobs.monitoring.notify_settings import Kind

BAD_STEPS = 3
"""Losses in a row that are no numbers, before an event. The run skips a single one and recovers."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event. It has figures of the run's log, and no setting of its environment."""

    event: Kind
    run: str
    state: str
    step: int
    max_iters: int
    attempt: int
    loss: float | None
    text: str
    """One line for people. Slack and similar services show this field."""


def events(before: Glance | None, now: Glance) -> list[Event]:
    """Return the events since the look ``before``. The state at the first look is no event."""
    if before is None:
        return []

    kinds: list[Kind] = []
    if now.state != before.state:
        by_state: dict[str, Kind] = {
            "finished": "end",
            "cancelled": "end",
            "failed": "failure",
            "silent": "stall",
        }
        if now.state in by_state:
            kinds.append(by_state[now.state])

    # A requeue is told once: when the job has stopped, or, if no look saw that, when the next attempt begins.
    stopped = now.state == "stopped" and before.state != "stopped"
    began = now.attempt > before.attempt and before.state not in ("stopped", "waiting")
    if stopped or began:
        kinds.append("requeue")

    if _is_bad(now) and not _is_bad(before):
        kinds.append("nan")

    return [_event(kind, now) for kind in kinds]


def _is_bad(look: Glance) -> bool:
    """Return whether the last losses are no numbers."""
    last = look.losses[-BAD_STEPS:]
    return len(last) == BAD_STEPS and not any(math.isfinite(loss) for loss in last)


def _event(kind: Kind, look: Glance) -> Event:
    return Event(
        event=kind,
        run=look.run,
        state=look.state,
        step=look.step,
        max_iters=look.max_iters,
        attempt=look.attempt,
        loss=look.loss,
        text=f"{kind}: {line(look)}",
    )

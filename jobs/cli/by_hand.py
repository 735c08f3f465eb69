"""Runs that a user started by hand with torchrun. They have a log, and no record of a submission."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.finding import Place
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.log_files import has_training
from jobctl.jobs.core.stamps import utc_stamp
from jobctl.jobs.monitoring.glance import Glance, glance
from jobctl.jobs.monitoring.glance_text import line
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.runs.store import State

TARGET = "by hand"
_STATES: dict[str, State] = {
    "waiting": "unknown",
    "running": "running",
    "silent": "running",
    "stopped": "stopped",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""The states of a log, with their names in a list."""


class ByHand(msgspec.Struct, frozen=True):
    """One run that jobctl did not submit."""

    look: Glance
    path: Path
    start: str
    """The start of its first attempt; empty if its log does not give it."""

    @property
    def name(self) -> str:
        return self.look.run

    @property
    def model(self) -> str | None:
        return self.look.model or None

    @property
    def state(self) -> State:
        # A list has no word for a log that waits or is silent.
        return _STATES[self.look.state]

    def facts(self) -> dict[str, Any]:
        """Return the run for JSON, with the keys of any other run."""
        look = self.look
        return {
            "run": look.run,
            "state": self.state,
            "target": TARGET,
            "job_id": "",
            "attempt": look.attempt,
            "nodes": "",
            "exit_code": None,
            "start": self.start,
            "end": "",
            "detail": look.detail,
            "blocked": "",
            "owner": "",
            "kind": kinds.TRAIN.name,
            "model": self.model,
            "stage": None,
            "hardware": None,
            "step": look.step or None,
            "steps": look.max_iters or None,
            "loss": look.loss,
        }

    def text(self) -> str:
        """Return two lines for people."""
        return f"{line(self.look)}\n  started by hand: it has a log, and no record of a submission"


def is_by_hand(run: Path) -> bool:
    """Return whether a run directory has a log or its document, and no record."""
    try:
        return not layout.record_file(run).is_file() and has_training(run)
    except OSError:  # private: the reader of its record reports that
        return False


def find_by_hand(name: str, place: Place) -> ByHand | None:
    """Return the run ``name`` if a user started it by hand below this host's root."""
    # A user who names a target asks for a run that jobctl submitted to it.
    return None if place.target else read_by_hand(place.root or root(place.site), name)


def read_by_hand(home: Path, name: str) -> ByHand | None:
    """Return the run ``name`` of the root ``home`` if it was started by hand. Raises UserError, OSError."""
    run = layout.run_dir(home, name)
    if not layout.RUN_NAME.fullmatch(name) or not is_by_hand(run):
        return None

    opened = open_run(name, home)
    history = opened.history()
    look = glance(history, opened.records(), time.time(), goodput=opened.goodput())
    began = next((segment.began for segment in history.segments if segment.began), None)

    return ByHand(look, run, utc_stamp(began) if began else "")


def all_by_hand(home: Path) -> list[ByHand]:
    """Return all runs of a root by hand, the newest last. Runs that cannot be read are left out."""
    folder = layout.runs(home)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    listed: list[ByHand] = []
    for name in names:
        # One bad run must not end the list.
        with contextlib.suppress(UserError, OSError):
            if run := read_by_hand(home, name):
                listed.append(run)

    return sorted(listed, key=lambda run: (run.start, run.name))

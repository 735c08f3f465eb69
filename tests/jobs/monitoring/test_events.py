"""What is news about a run, and what is not."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.monitoring.events import events
from jobctl.jobs.monitoring.glance import Glance
from tests.jobs.monitoring.runs import write_attempt
from tests.jobs.monitoring.test_glance import going, look


@pytest.fixture
def seen(tmp_path: Path) -> Glance:
    write_attempt(going(tmp_path), 1)
    return look(tmp_path)


def changed(look: Glance, **changes: object) -> Glance:
    return msgspec.structs.replace(look, **changes)


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"step": 110}, []),
        ({"state": "finished"}, ["end"]),
        ({"state": "cancelled"}, ["end"]),
        ({"state": "failed"}, ["failure"]),
        ({"state": "silent"}, ["stall"]),
        ({"state": "stopped"}, ["requeue"]),
        ({"attempt": 2}, ["requeue"]),
        ({"losses": [3.0, math.nan, math.nan, math.nan]}, ["nan"]),
        ({"losses": [3.0, math.nan, 3.0, math.nan]}, []),
        ({"losses": [math.nan] * 3, "state": "failed"}, ["failure", "nan"]),
    ],
)
def test_changes_are_news(seen: Glance, changes: dict[str, object], kinds: list[str]) -> None:
    assert [event.event for event in events(seen, changed(seen, **changes))] == kinds


def test_a_requeue_is_told_once(seen: Glance) -> None:
    stopped = changed(seen, state="stopped")
    waiting = changed(stopped, state="waiting", attempt=2)
    going_on = changed(waiting, state="running")
    assert [e.event for e in events(seen, stopped)] == ["requeue"]
    assert events(stopped, waiting) == []
    assert events(waiting, going_on) == []


def test_what_was_so_before_the_first_look_is_no_news(seen: Glance) -> None:
    assert events(None, changed(seen, state="failed")) == []
    failed = changed(seen, state="failed")
    assert events(failed, failed) == []


def test_an_event_has_figures_and_a_line(seen: Glance) -> None:
    (event,) = events(seen, changed(seen, state="failed"))
    assert (event.run, event.step, event.max_iters, event.attempt) == (seen.run, 100, 200, 1)
    assert event.text.startswith(f"failure: {seen.run}: failed  step 100/200")

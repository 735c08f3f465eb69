"""Who makes no progress is ended; who waits for storage is not, and it is said."""

import logging
import queue
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jobctl.trainer.lifecycle import watchdog
from jobctl.trainer.lifecycle.watchdog import Watchdog
from tests.trainer.running import PROJECT

PRELUDE = """
import sys, time
from jobctl.trainer.lifecycle import watchdog
from jobctl.trainer.lifecycle.watchdog import Watchdog
watchdog.POLL_SECONDS = 0.02
def waits_for_ever(): time.sleep(600)
"""
STUCK = """
with Watchdog(1, sys.stderr, lambda idle: print(f"idle for {idle:.0f}", flush=True)) as dog:
    for _ in range(6):
        time.sleep(0.2)
        dog.beat()
    print("beating", flush=True)
    waits_for_ever()
"""
CALLED = """
with Watchdog(600, sys.stderr, lambda idle: print("looked into", flush=True), lambda: True) as dog:
    waits_for_ever()
"""
FAILING = """
def fail(idle): raise ValueError("no such place")
with Watchdog(1, sys.stderr, fail) as dog:
    waits_for_ever()
"""
DEAD_STORAGE = """
watchdog.STORAGE_SECONDS = 1
watchdog.STORAGE_TIMEOUTS = 1
with Watchdog(1, sys.stderr) as dog, dog.waiting_for_storage("the last checkpoint"):
    waits_for_ever()
"""
NO_PYTHON = """
watchdog.LAST_RESORT_SECONDS = 0.5
with Watchdog(1, sys.stderr) as dog:
    time.sleep(0.2)
    import ctypes
    ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock
"""


def ended(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_who_no_longer_beats_is_ended_with_every_stack() -> None:
    process = ended(STUCK)
    assert process.stdout == "beating\nidle for 1\n"
    assert process.returncode == 1
    assert "no step for 1 s; every thread's stack" in process.stderr
    assert "in waits_for_ever" in process.stderr


def test_a_hang_of_another_rank_is_looked_into_at_once() -> None:
    process = ended(CALLED)
    assert process.returncode == 1
    assert process.stdout == "looked into\n"


def test_a_hang_that_cannot_be_looked_into_ends_all_the_same() -> None:
    process = ended(FAILING)
    assert process.returncode == 1
    assert "no such place" in process.stderr


def test_storage_that_makes_no_progress_for_long_is_a_hang() -> None:
    process = ended(DEAD_STORAGE)
    assert process.returncode == 1
    assert "in waits_for_ever" in process.stderr


def test_where_no_python_runs_any_more_the_process_ends_too() -> None:
    process = ended(NO_PYTHON)
    assert process.returncode == 1
    assert "Timeout (0:00:01" in process.stderr


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    """A watchdog that looks often, and allows a twentieth of a second; its end would be this process's."""
    monkeypatch.setattr(watchdog, "POLL_SECONDS", 0.005)
    with Watchdog(600, sys.__stderr__ or sys.stderr) as dog:
        dog.timeout_seconds = 0.05  # type: ignore[assignment]
        with dog.starting():
            yield dog
        dog.timeout_seconds = 600


@pytest.fixture
def heard() -> Iterator["queue.Queue[str]"]:
    """What is said, as it is said."""
    words: queue.Queue[str] = queue.Queue()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            words.put(record.getMessage())

    listener = Listener()
    logging.getLogger(watchdog.__name__).addHandler(listener)
    yield words
    logging.getLogger(watchdog.__name__).removeHandler(listener)


def test_a_wait_for_storage_is_no_hang_and_is_said(heard: "queue.Queue[str]", impatient: Watchdog) -> None:
    with impatient.waiting_for_storage("the checkpoint of step 40"):
        while heard.get(timeout=60) != "waiting for storage: the checkpoint of step 40, for 0 s so far":
            pass
        assert impatient.doing == "storage: the checkpoint of step 40"

    assert impatient.doing == "the first step"


def test_a_start_may_take_longer_than_a_step(heard: "queue.Queue[str]", impatient: Watchdog) -> None:
    assert "waiting for the first step" in heard.get(timeout=60)

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.core.layout import stop_file
from jobctl.trainer.lifecycle.stop import StopRequest
from tests.trainer.running import ALONE


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nothing_asks_for_a_stop(tmp_path: Path) -> None:
    assert not StopRequest(tmp_path, ALONE).is_asked()


def test_the_stop_file_says_why(tmp_path: Path) -> None:
    stop = StopRequest(tmp_path, ALONE)
    stop_file(tmp_path).write_text("time limit\n")
    assert stop.is_asked()
    assert stop.reason.endswith("STOP: time limit")


def test_an_empty_stop_file_is_enough(tmp_path: Path) -> None:
    stop_file(tmp_path).touch()
    assert StopRequest(tmp_path, ALONE).is_asked()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop(tmp_path: Path, number: signal.Signals) -> None:
    stop = StopRequest(tmp_path, ALONE)
    stop.watch_signals()
    os.kill(os.getpid(), number)
    assert stop.is_asked()
    assert number.name in stop.reason


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    StopRequest(tmp_path, ALONE).watch_signals()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)

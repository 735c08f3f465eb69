import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.core.layout import stop_file
from jobctl.trainer.lifecycle.stop import LAUNCHED_AT, StopRequest
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


def test_a_reason_of_several_lines_is_printed_as_one(tmp_path: Path) -> None:
    stop = StopRequest(tmp_path, ALONE)
    stop_file(tmp_path).write_text("cancel\nlauncher received SIGTERM\n")
    assert stop.is_asked()
    assert stop.reason.endswith("STOP: cancel; launcher received SIGTERM")


def test_an_empty_stop_file_is_enough(tmp_path: Path) -> None:
    stop_file(tmp_path).touch()
    assert StopRequest(tmp_path, ALONE).is_asked()


def left_by_a_launcher(run: Path, age: float = 60.0) -> Path:
    file = stop_file(run)
    file.write_text("launcher received SIGTERM\n")
    then = time.time() - age
    os.utime(file, (then, then))
    return file


def test_a_request_that_a_killed_launcher_left_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = left_by_a_launcher(tmp_path)
    monkeypatch.setenv(LAUNCHED_AT, str(time.time() - 1))
    stop = StopRequest(tmp_path, ALONE)
    stop.forget_earlier_launch()
    assert not file.exists()
    assert not stop.is_asked()


def test_a_request_of_this_launch_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_launcher(tmp_path, age=1.0)
    monkeypatch.setenv(LAUNCHED_AT, str(time.time() - 30))
    stop = StopRequest(tmp_path, ALONE)
    stop.forget_earlier_launch()
    assert stop.is_asked()


@pytest.mark.parametrize("text", ["", "cancelled by me\n", "launcher received SIGTERM\nplease\n"])
def test_a_request_of_a_person_stays_however_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = left_by_a_launcher(tmp_path)
    file.write_text(text)
    os.utime(file, (0, 0))
    monkeypatch.setenv(LAUNCHED_AT, str(time.time()))
    stop = StopRequest(tmp_path, ALONE)
    stop.forget_earlier_launch()
    assert stop.is_asked()


def test_without_a_stop_file_nothing_is_forgotten(tmp_path: Path) -> None:
    StopRequest(tmp_path, ALONE).forget_earlier_launch()
    assert list(tmp_path.iterdir()) == []


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

"""One attempt trains at a time; what a dead one has left behind keeps nobody from going on."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import heartbeat_file
from jobctl.trainer.lifecycle import heartbeat
from jobctl.trainer.lifecycle.heartbeat import Heartbeat, Sign, decoded, encoded, machine, started
from tests.trainer.running import PROJECT

ELSEWHERE = "another machine"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was said, with a heart that beats fast."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 1.0)
    monkeypatch.setattr(heartbeat, "POLL_SECONDS", 0.02)
    return []


def sign(machine: str, pid: int = 1, start: str = "1") -> Sign:
    return Sign("abc", 3, "n1", pid, machine, start)


@contextmanager
def beating(run: Path, sign: Sign) -> Iterator[None]:
    """A sign that somebody elsewhere keeps moving."""
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(0.05):
            number += 1
            heartbeat_file(run).write_bytes(encoded(msgspec.structs.replace(sign, beat=number)))

    heartbeat_file(run).write_bytes(encoded(sign))
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_it_beats_while_the_attempt_lasts_and_is_gone_afterwards(tmp_path: Path, said: list[str]) -> None:
    with Heartbeat(tmp_path, 1, said.append):
        first = heartbeat_file(tmp_path).read_bytes()
        while (now := heartbeat_file(tmp_path).read_bytes()) == first:
            pass
        found = decoded(now)
        assert found is not None
        assert (found.attempt, found.pid, len(now)) == (1, os.getpid(), heartbeat.SIZE)
    assert not heartbeat_file(tmp_path).exists()
    assert said == []


def test_beside_one_that_is_alive_on_this_machine_none_begins(tmp_path: Path, said: list[str]) -> None:
    with Heartbeat(tmp_path, 3, said.append):
        with (
            pytest.raises(UserError, match=f"is in use: attempt 3, process {os.getpid()} on") as refused,
            Heartbeat(tmp_path, 4, said.append),
        ):
            pass
        assert "STOP" in refused.value.hint
        assert heartbeat_file(tmp_path).exists(), "the refused one takes nothing away"


def test_beside_one_that_beats_on_another_machine_none_begins(tmp_path: Path, said: list[str]) -> None:
    with beating(tmp_path, sign(ELSEWHERE)), pytest.raises(UserError, match="attempt 3, process 1 on n1"):
        Heartbeat(tmp_path, 4, said.append).__enter__()


def test_one_that_hangs_on_this_machine_still_has_its_run(tmp_path: Path, said: list[str]) -> None:
    heartbeat_file(tmp_path).write_bytes(encoded(sign(machine(), os.getpid(), started(os.getpid()))))
    with pytest.raises(UserError, match="is in use"):
        Heartbeat(tmp_path, 4, said.append).__enter__()


@pytest.mark.parametrize(
    "left", [b"", b"no sign", encoded(sign(ELSEWHERE))[:40], b"\0" * 512, b'{"host": "\xff"}']
)
def test_what_is_no_sign_keeps_nobody_from_training(tmp_path: Path, said: list[str], left: bytes) -> None:
    heartbeat_file(tmp_path).write_bytes(left)
    with Heartbeat(tmp_path, 4, said.append):
        assert decoded(heartbeat_file(tmp_path).read_bytes())
    assert said == []


def test_what_a_dead_process_of_this_machine_has_left_is_not_even_watched(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 600)
    process = subprocess.Popen(["sleep", "60"])
    heartbeat_file(tmp_path).write_bytes(encoded(sign(machine(), process.pid, started(process.pid))))
    process.kill()  # and not waited for: a zombie is dead, too
    while started(process.pid):
        pass
    with Heartbeat(tmp_path, 4, said.append):
        assert said == []
    process.wait()


def test_another_process_of_the_same_number_is_not_taken_for_it(tmp_path: Path, said: list[str]) -> None:
    heartbeat_file(tmp_path).write_bytes(encoded(sign(machine(), os.getpid(), "1")))
    with Heartbeat(tmp_path, 4, said.append):
        assert said == []


def test_what_a_dead_node_has_left_delays_and_never_locks(tmp_path: Path, said: list[str]) -> None:
    heartbeat_file(tmp_path).write_bytes(encoded(sign(ELSEWHERE)))
    with Heartbeat(tmp_path, 4, said.append):
        pass
    assert said == ["attempt 3 on n1 did not record its end; is it alive?"]


def test_a_disk_that_is_full_is_said_and_does_not_end_the_training(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heartbeat, "write_whole", full)
    heartbeat_file(tmp_path).write_bytes(encoded(sign(machine())))  # a dead one's, which cannot be replaced
    with Heartbeat(tmp_path, 1, said.append):
        assert said == [f"WARNING: {heartbeat_file(tmp_path)} cannot be written: No space left on device"]


def test_one_that_was_taken_for_dead_ends_when_it_sees_its_successor(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from jobctl.trainer.lifecycle import heartbeat
heartbeat.BEAT_SECONDS = 0.05
with heartbeat.Heartbeat(Path({str(tmp_path)!r}), 1, print):
    print("at work", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-uc", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "at work\n"
    aside = tmp_path / "aside"
    aside.write_bytes(encoded(sign(ELSEWHERE)))
    aside.replace(heartbeat_file(tmp_path))
    assert process.wait(30) == 75
    assert "attempt 3 on n1 trains in this run now; this one ends without saving" in process.stdout.read()
    found = decoded(heartbeat_file(tmp_path).read_bytes())
    assert found is not None
    assert found.nonce == "abc", "what is the successor's is left alone"

"""Where a process is, and where another one is that it asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jobctl.trainer.lifecycle.stacks import data_workers, last_thread, main_stack, stack_of, state_of

SLEEPER = """
import faulthandler, signal, sys, time
faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
def sleeps():
    print("ready", flush=True)
    time.sleep(600)
sleeps()
"""


def test_the_main_threads_stack_begins_with_its_innermost_frame() -> None:
    names = [frame.function for frame in main_stack()]
    assert names[:2] == ["main_stack", "test_the_main_threads_stack_begins_with_its_innermost_frame"]


def test_another_process_is_asked_through_the_log_that_both_write(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=log)
        assert process.stdout
        process.stdout.readline()
        frames = stack_of(process.pid, log)
        process.kill()
        process.wait()

    assert "sleeps" in [frame.function for frame in frames]
    assert state_of(process.pid) == ""


def test_a_log_that_is_no_file_cannot_be_read_back() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as log:
        assert stack_of(os.getpid(), log) == ()


def test_a_stopped_process_is_seen_as_stopped() -> None:
    process = subprocess.Popen(["sleep", "600"])
    os.kill(process.pid, signal.SIGSTOP)
    while state_of(process.pid) != "T":
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert state_of(process.pid) == ""


def test_of_several_threads_the_last_one_is_the_main_thread() -> None:
    text = (
        "Thread 0x1 (most recent call first):\n"
        '  File "/a.py", line 3 in feed\n'
        "\n"
        "Current thread 0x2 (most recent call first):\n"
        '  File "/b.py", line 5 in read\n'
        '  File "/b.py", line 9 in <module>\n'
    )
    assert [(frame.file, frame.line, frame.function) for frame in last_thread(text)] == [
        ("/b.py", 5, "read"),
        ("/b.py", 9, "<module>"),
    ]
    assert last_thread("nothing\n") == ()


def test_a_process_without_workers_has_none() -> None:
    assert data_workers(sys.__stderr__ or sys.stderr) == ()

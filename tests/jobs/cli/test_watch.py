"""``jobctl watch`` in a pipe and in a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobctl.jobs.core import layout
from tests.jobs.cli.test_analyze import call
from tests.jobs.monitoring.runs import (
    start_line,
    step_line,
    training_lines,
    write_attempt,
    write_log,
    write_run,
)

PATIENCE_SECONDS = 60.0
PROGRAM = "import sys; from jobctl.jobs.cli import main; main(sys.argv[1:])"


def append(log: Path, step: int, loss: float) -> None:
    with log.open("a") as file:
        file.write(json.dumps(step_line(step, loss)) + "\n")


def test_without_a_terminal_there_is_a_line_a_run(root: Path) -> None:
    for name in ("a", "b"):
        write_run(layout.run_dir(root, name))

    shown = call("watch", "a", "b")
    assert [line.split(":")[0] for line in shown.output.splitlines()] == ["a", "b"]
    assert "\x1b" not in shown.output


def test_a_missing_package_is_said_with_what_to_do(root: Path) -> None:
    write_run(layout.run_dir(root, "a"))
    program = f"import sys; sys.modules['rich'] = None; sys.stdout.isatty = lambda: True; {PROGRAM}"
    words = [sys.executable, "-c", program, "watch", "a"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "[monitoring]', or: jobctl watch --plain" in done.stderr


def test_lines_follow_a_run_through_a_requeue_to_its_end(root: Path) -> None:
    run = layout.run_dir(root, "a")
    log = write_log(run, [start_line(), *training_lines(range(1, 11))])
    write_attempt(run, 1)
    words = [sys.executable, "-c", PROGRAM, "watch", "a", "--interval", "0.2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "running  step 10/200" in process.stdout.readline()
        append(log, 11, 4.5)
        assert "step 11/200 (6%)  loss 4.5000" in process.stdout.readline()
        write_attempt(run, 1, end=1.0, exit_code=200, reason="time limit")
        assert "stopped" in process.stdout.readline()
        write_log(run, [{"kind": "resumed", "iter": 10}, start_line(), step_line(11, 4.0)], minutes=5)
        write_attempt(run, 2, begin=4.0)
        line = process.stdout.readline()
        while "running" not in line:
            line = process.stdout.readline()

        write_attempt(run, 2, begin=4.0, end=9.0)
        assert "finished" in process.stdout.readline()
        assert process.wait(PATIENCE_SECONDS) == 0


@contextmanager
def in_terminal(*words: str, columns: int, lines: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start ``jobctl`` in a terminal of its own; the process and our end of the terminal."""
    ours, theirs = pty.openpty()
    resize(ours, columns, lines)
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    environment.pop("LINES", None)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def resize(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def read_until(terminal: int, is_enough: Callable[[str], bool]) -> str:
    """Read what the terminal shows until ``is_enough`` holds of it."""
    text = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_enough(text.decode("utf-8", "ignore")):
        assert time.monotonic() < deadline, text.decode("utf-8", "ignore")[-2000:]
        try:
            text += os.read(terminal, 65536)
        except OSError:  # the process has closed its end
            break

    return text.decode("utf-8", "ignore")


def test_the_view_follows_the_run_and_the_size_of_the_terminal(root: Path) -> None:
    run = layout.run_dir(root, "a")
    log = write_log(run, [start_line(), *training_lines(range(1, 101))])
    write_attempt(run, 1)
    with in_terminal("watch", "a", "--interval", "0.2", columns=100, lines=40) as (process, terminal):
        first = read_until(terminal, lambda text: "╯" in text and "3.7960" in text)
        assert "─" * 60 in first
        append(log, 101, 2.5)
        read_until(terminal, lambda text: "2.5000" in text)
        resize(terminal, 60, 20)
        os.killpg(process.pid, signal.SIGWINCH)
        narrow = f"╰{'─' * 58}╯"
        read_until(terminal, lambda text: narrow in text)
        write_attempt(run, 1, end=5.0)
        last = read_until(terminal, lambda text: "a: finished" in text)
        assert "\x1b[?1049l" in last, "the screen of before comes back"
        assert process.wait(PATIENCE_SECONDS) == 0


def test_leaving_ends_nothing(root: Path) -> None:
    run = layout.run_dir(root, "a")
    write_log(run, [start_line(), *training_lines(range(1, 101))])
    write_attempt(run, 1)
    with in_terminal("watch", "a", columns=100, lines=40) as (process, terminal):
        read_until(terminal, lambda text: "╯" in text)
        os.killpg(process.pid, signal.SIGINT)
        text = read_until(terminal, lambda text: "\x1b[?1049l" in text)
        assert process.wait(PATIENCE_SECONDS) == 130
        assert "Traceback" not in text
        assert not layout.stop_file(run).exists()


def test_a_failure_is_told_to_the_projects_command(root: Path, tmp_path: Path) -> None:
    run = layout.run_dir(root, "a")
    write_log(run, [start_line(), *training_lines(range(1, 11))])
    write_attempt(run, 1)
    got = tmp_path / "got"
    got.write_text("")
    Path("jobctl.yaml").write_text(f"notify: {{command: [tee, '{got}']}}\n")
    words = [sys.executable, "-c", PROGRAM, "watch", "a", "--interval", "0.2", "--notify"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        write_attempt(run, 1, end=5.0, exit_code=1)
        assert process.wait(PATIENCE_SECONDS) == 0

    assert json.loads(got.read_text())["event"] == "failure"

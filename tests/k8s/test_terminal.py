"""``jobctl shell`` from a real terminal into one in the pod: its size, Ctrl-C, the exit code, and how it is left."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.k8s import terminal
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, until

PATIENCE = 60.0


class Person:
    """A user at a terminal in which ``jobctl shell demo`` runs."""

    def __init__(self, *more: str) -> None:
        self.file, theirs = os.openpty()
        self.resize(columns=100, lines=30)
        self.before = termios.tcgetattr(theirs)
        program = "from jobctl.jobs.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "shell", "demo", *more],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PS1": "", "PYTHONPATH": "src"},
            cwd=os.environ["JOBCTL_CHECKOUT"],
            start_new_session=True,
            preexec_fn=terminal.sit_down,
        )
        self._theirs = theirs
        self.screen = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())

    def sees(self, text: str) -> bool:
        """Whether ``text`` is on the screen by now or soon."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen and time.monotonic() < deadline:
            if select.select([self.file], [], [], 0.05)[0]:
                self.screen += os.read(self.file, 65536).decode(errors="replace")
        return text in self.screen

    def code(self) -> int:
        """The exit code of jobctl."""
        return self.process.wait(PATIENCE)

    @property
    def modes(self) -> list[object]:
        return list(termios.tcgetattr(self._theirs))

    def leave(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.file)
        os.close(self._theirs)


@pytest.fixture
def sit_down(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Person]]:
    """Run ``demo`` is at work, and somebody looks into its pod."""
    monkeypatch.setenv("JOBCTL_CHECKOUT", str(request.config.rootpath))
    cluster(f'touch "$run_dir/up"; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--target", "k8s")
    until((server.volume / "runs/demo/up").exists)
    people: list[Person] = []

    def sit(*more: str) -> Person:
        people.append(Person(*more))
        return people[-1]

    yield sit
    for person in people:
        person.leave()


def test_the_terminal_in_the_pod_is_as_large_as_ours_also_when_that_changes(
    sit_down: Callable[..., Person],
) -> None:
    person = sit_down()
    person.type("echo ready-$((40 + 2))\n")
    assert person.sees("ready-42")
    person.type("stty size; tty -s && echo a-terminal-$((1 + 1))\n")
    assert person.sees("30 100")
    assert person.sees("a-terminal-2")
    person.resize(columns=133, lines=41)
    person.type("until [ \"$(stty size)\" = '41 133' ]; do sleep 0.1; done; echo grown-$((2 + 1))\n")
    assert person.sees("grown-3")


def test_control_c_ends_what_runs_in_the_pod_and_not_the_shell(sit_down: Callable[..., Person]) -> None:
    person = sit_down()
    # The word comes from the command that Ctrl-C is for, so that this has begun.
    person.type("sh -c 'echo begin-$((6 * 7)); exec sleep 1000'\n")
    assert person.sees("begin-42")
    person.type("\x03")
    person.type("echo code-$?\n")
    assert person.sees("code-130")
    assert person.process.poll() is None


def test_the_exit_code_comes_back_and_the_terminal_is_as_before(sit_down: Callable[..., Person]) -> None:
    person = sit_down()
    person.type("echo here-$((1 + 1))\n")
    assert person.sees("here-2")
    assert person.modes != person.before, "each key goes to the pod as it is"
    person.type("exit 7\n")
    assert person.code() == 7
    assert person.modes == person.before


def test_control_d_leaves(sit_down: Callable[..., Person]) -> None:
    person = sit_down()
    person.type("echo here-$((1 + 1))\n")
    assert person.sees("here-2")
    person.type("\x04")
    assert person.code() == 0


def test_a_command_has_the_terminal_too(sit_down: Callable[..., Person]) -> None:
    person = sit_down("--", "bash", "-c", "read -p 'name? ' name; echo hello-$name; exit 4")
    assert person.sees("name? ")
    person.type("ann\n")
    assert person.sees("hello-ann")
    assert person.code() == 4


def test_a_shell_that_is_killed_gives_the_terminal_back(
    sit_down: Callable[..., Person], server: ApiServer
) -> None:
    person = sit_down()
    person.type("echo here-$((1 + 1))\n")
    assert person.sees("here-2")
    (shell,) = server.commands
    os.killpg(shell.pid, signal.SIGKILL)
    assert person.code() == 137
    assert person.modes == person.before


def test_a_connection_that_breaks_gives_the_terminal_back(
    sit_down: Callable[..., Person], server: ApiServer
) -> None:
    server.faults = [Fault(lambda _, path: "/exec" in path, cut_after=200)]
    person = sit_down()
    person.type("printf '%300s' x\n")
    assert person.sees("the connection to the pod broke")
    assert person.code() == 1
    assert person.modes == person.before

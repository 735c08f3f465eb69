"""``shell`` and ``forward``: this terminal in a pod, and a port of a pod on this host."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from collections.abc import Iterator

import pytest

from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, until


@pytest.fixture
def running(server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]) -> None:
    """Run ``demo`` of two pods is at work."""
    cluster(f'touch "$run_dir/up-$node"; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--nodes", "2")
    until(lambda: all((server.volume / f"runs/demo/up-{node}").exists() for node in (0, 1)))


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal of 100 columns and 30 lines as standard input; what is written to it is typed."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with open(theirs, closefd=True) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours

    os.close(ours)


def test_a_shell_opens_in_the_directory_of_the_run(
    running: None,
    server: ApiServer,
    capfd: pytest.CaptureFixture[str],
    keyboard: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    os.write(keyboard, b'echo "in $PWD with $TERM"; exit 3\n')
    before = termios.tcgetattr(sys.stdin)
    code, out, err = jobctl_says(capfd, "shell", "demo")
    assert code == 3, err
    assert f"in {server.volume}/runs/demo with {os.environ.get('TERM') or 'xterm'}" in out
    assert server.sizes == [{"Width": 100, "Height": 30}]
    assert termios.tcgetattr(sys.stdin) == before


def test_a_command_runs_in_the_pod_that_is_named(running: None, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["bash", "-c", 'echo "$0 out"; echo err >&2; cat; exit 7', "a word"]
    code, out, err = jobctl_says(capfd, "shell", "demo", "--node", "1", "--", *words)
    assert (code, out, err) == (7, "a word out\n", "err\n")


def test_a_shell_without_a_terminal_is_refused(running: None, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = jobctl_says(capfd, "shell", "demo")
    assert (code, "a shell needs a terminal" in err) == (2, True)


def test_a_pod_that_does_not_run_cannot_be_entered(running: None, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = jobctl_says(capfd, "shell", "demo", "--node", "5", "--", "true")
    assert (code, "pod 5 of run 'demo' does not run; these run: 0, 1" in err) == (1, True)
    jobctl_says(capfd, "cancel", "demo")
    until(lambda: "cancelled" in jobctl_says(capfd, "status", "demo")[1])
    code, _, err = jobctl_says(capfd, "shell", "demo", "--", "true")
    assert (code, "jobctl collect demo -o DIR brings its files" in err) == (1, True)


def test_a_shell_whose_connection_breaks_says_so(
    running: None, server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.faults = [Fault(lambda _, path: "/exec" in path, cut_after=4)]
    code, out, err = jobctl_says(capfd, "shell", "demo", "--", "echo", "a long word")
    assert (code, out) == (1, "a lo")
    assert "the connection to the pod broke" in err

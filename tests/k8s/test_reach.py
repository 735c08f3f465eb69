"""``shell`` and ``forward``: this terminal in a pod, and a port of a pod on this host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import struct
import sys
import termios
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, until

TENSORBOARD = 'case $* in *tensorboard.main*) exec "$REAL_PYTHON" "$@" ;; esac; '


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


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``forward`` tells."""
    lines: list[str] = []
    monkeypatch.setattr("jobctl.k8s.forwarding.tell", lines.append)
    return lines


def serve(port: int | None = None) -> None:
    """Serve a port of run ``demo``, TensorBoard for None, until the server of the test ends."""
    run = PYTORCH.store(Site(), Path("/no/home")).find("demo")
    assert run is not None

    def work() -> None:
        with contextlib.suppress(UserError):
            PYTORCH.forward(run, 0, port)

    threading.Thread(target=work, daemon=True).start()


def address(said: list[str]) -> str:
    """Where it serves, as soon as it does."""
    until(lambda: any("http://" in line for line in said))
    return re.findall(r"http://\S+", " ".join(said))[-1]


def test_tensorboard_shows_the_runs_figures_from_a_pod(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, said: list[str],
) -> None:  # fmt: skip
    cluster(f'{TENSORBOARD} mkdir -p "$run_dir/metrics/tensorboard/demo"; exit 0')
    monkeypatch.setenv("REAL_PYTHON", sys.executable)
    monkeypatch.setenv("JOBCTL_PYTHON", str(tmp_path / "bin/python"))
    monkeypatch.setattr("jobctl.k8s.forwarding.PORT", free_port())
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    serve()
    with urllib.request.urlopen(f"{address(said)}data/environment", timeout=30) as answer:
        assert f"{server.volume}/runs/demo/metrics/tensorboard" in answer.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_port_of_a_pod_is_served_and_a_silent_one_is_named(running: None, said: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        number = there.getsockname()[1]
        serve(number)
        here = int(address(said).rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", here)) as asks:
            asks.sendall(b"question")
            answers, _ = there.accept()
            with answers:
                assert answers.recv(100) == b"question"
                answers.sendall(b"answer" * 100_000)
            assert b"".join(iter(lambda: asks.recv(65536), b"")) == b"answer" * 100_000

    with socket.create_connection(("127.0.0.1", here)) as asks:
        assert asks.recv(100) == b""
    until(lambda: f"error forwarding port {number}" in " ".join(said))


def test_tensorboard_that_does_not_begin_leaves_no_pod(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cluster('case $* in *tensorboard.main*) echo "No module named tensorboard"; exit 1 ;; esac; exit 0')
    monkeypatch.setenv("JOBCTL_PYTHON", str(tmp_path / "bin/python"))
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    code, _, err = jobctl_says(capfd, "forward", "demo", "--port", "0")
    assert (code, "No module named tensorboard" in err) == (1, True)
    assert server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/component=reader") == []


def test_a_port_that_is_taken_is_named(running: None, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, _, err = jobctl_says(capfd, "forward", "demo", "--port", str(port))
    assert (code, f"port {port} of this host" in err) == (1, True)

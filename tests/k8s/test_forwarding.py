"""``forward``: a port of a pod on this host, and TensorBoard from a pod that reads the volume."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer
from tests.k8s.test_reach import running
from tests.k8s.test_verbs import SMOKE, jobctl_says, until

__all__ = ["running"]


TENSORBOARD = 'case $* in *tensorboard.main*) exec "$REAL_PYTHON" "$@" ;; esac; '


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


def test_two_connections_at_once_are_not_mixed(running: None, said: list[str]) -> None:
    """TensorBoard's page opens several."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        serve(there.getsockname()[1])
        port = int(address(said).rstrip("/").rpartition(":")[2])
        asks = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        answers = []
        for number, each in enumerate(asks):
            each.sendall(b"%d" % number)
            answers.append(there.accept()[0])

        for other in answers:
            other.sendall(b"answer to " + other.recv(1))
            other.close()

        for number, each in enumerate(asks):
            assert b"".join(iter(lambda: each.recv(100), b"")) == b"answer to %d" % number  # noqa: B023
            each.close()

"""A TrainJob's status over real HTTPS, with an authority of our own; and nothing of it can end a run."""

from __future__ import annotations

import json
import math
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobctl.trainer.reporting import trainjob_status
from jobctl.trainer.reporting.trackers import Series, Trackers, wanted
from jobctl.trainer.reporting.trainjob_status import Endpoint, TrainJobStatus, endpoint, post, status
from tests.k8s.schemas import problems
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import train

PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/n/trainjobs/t/status"


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path) -> None:
    """An authority in ca.crt, and a server's key and certificate that it has signed in server.pem."""
    folder.mkdir()
    new_key = ("-nodes", "-newkey", "rsa:2048")
    openssl(
        folder,
        "req",
        "-x509",
        *new_key,
        "-subj",
        "/CN=our CA",
        "-days",
        "2",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    )
    openssl(folder, "req", *new_key, "-subj", "/CN=trainer", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl(folder, "x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
    (folder / "server.pem").write_text(
        (folder / "server.key").read_text() + (folder / "server.crt").read_text()
    )


class Server:
    """Takes posts as Kubeflow Trainer's status server does."""

    def __init__(self, folder: Path) -> None:
        self.code = 200
        self.location = ""
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.news = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.news:
                    outer.bodies.append(body)
                    outer.tokens.append(self.headers["Authorization"])
                    outer.news.notify_all()

                self.send_response(outer.code if self.path == PATH else 404)
                if outer.location:
                    self.send_header("Location", outer.location)

                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.token = folder / "token"
        self.token.write_text("first\n")
        self.target = Endpoint(
            f"https://127.0.0.1:{self.http.server_port}{PATH}", self.token, folder / "ca.crt"
        )
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def environment(self, prefix: str = "KUBEFLOW_TRAINER_SERVER_") -> dict[str, str]:
        values = {"URL": self.target.url, "TOKEN": str(self.token), "CA_CERT": str(self.target.ca_file)}
        return {prefix + name: value for name, value in values.items()}

    def wait_for(self, count: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.bodies) >= count, 20)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority") / "tls"
    make_authority(folder)
    return folder


@pytest.fixture
def server(authority: Path) -> Iterator[Server]:
    made = Server(authority)
    yield made
    made.http.shutdown()
    made.http.server_close()


def series(folder: Path, resumed: int | None = None) -> Series:
    return Series(folder=folder, name="r", config={"max_iters": 200}, resumed_step=resumed)


def test_progress_time_left_and_metrics_arrive(server: Server, tmp_path: Path) -> None:
    tracker = TrainJobStatus(series(tmp_path, resumed=20), server.target)
    tracker.log(50, {"loss": 3.25, "lr": 3e-4, "dt_ms": 2000.0})
    tracker.log(51, {"val_loss/all": 3.5})
    tracker.close()
    first, last = (body["trainerStatus"] for body in server.bodies)
    assert first["progressPercentage"] == 10
    assert "estimatedRemainingSeconds" not in first, "nobody knows yet how long a step takes"
    assert last["progressPercentage"] == 25
    assert last["estimatedRemainingSeconds"] == 298
    assert {"name": "loss", "value": "3.25"} in last["metrics"]
    assert {"name": "val_loss/all", "value": "3.5"} in last["metrics"]
    assert set(server.tokens) == {"Bearer first"}


def test_a_training_in_a_trainjob_tells_it_to_the_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)

    data = write_corpus(tmp_path / "data")
    assert train(arguments(data, tmp_path / "run")) == 0
    last = server.bodies[-1]["trainerStatus"]
    assert (last["progressPercentage"], last["estimatedRemainingSeconds"]) == (100, 0)
    assert {"loss", "grad_norm", "lr", "tokens_per_sec", "step"} <= {
        metric["name"] for metric in last["metrics"]
    }


@pytest.mark.parametrize(
    ("code", "location"),
    [(500, ""), (403, ""), (404, ""), (307, "https://127.0.0.1:1/"), (302, "http://127.0.0.1:1/")],
)
def test_a_server_that_refuses_is_said_once_and_asked_again(
    server: Server, tmp_path: Path, code: int, location: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    server.code = code
    server.location = location
    tracker = TrainJobStatus(series(tmp_path), server.target, clock=lambda: now[0])
    for step in range(1, 40):
        now[0] += 1.0
        tracker.log(step, {"loss": 3.0})

    assert len(server.bodies) == 3, "after 0, 10 and 30 seconds"
    assert caplog.text.count("the TrainJob's status is not written") == 1
    assert "first" not in caplog.text, "the token is in no log"
    server.code = 200
    server.location = ""
    now[0] += 100.0
    tracker.log(40, {"loss": 2.0})
    assert server.bodies[-1]["trainerStatus"]["progressPercentage"] == 20
    now[0] += 5.0
    tracker.log(41, {"loss": 2.0})
    assert len(server.bodies) == 5, "it is asked as often as before"


def test_a_server_of_another_authority_gets_no_token(server: Server, tmp_path: Path) -> None:
    make_authority(tmp_path / "other")
    stranger = server.target._replace(ca_file=tmp_path / "other" / "ca.crt")
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        post(stranger, b"{}")

    assert server.tokens == []


def test_a_token_that_was_renewed_is_read_again(server: Server) -> None:
    post(server.target, b"{}")
    server.token.write_text("second")
    post(server.target, b"{}")
    assert server.tokens == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("broken", ["url", "token_file", "ca_file"])
def test_nothing_that_is_missing_or_silent_ends_a_run(
    server: Server, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: Any = "https://127.0.0.1:1/x" if broken == "url" else tmp_path / "none"
    monkeypatch.setattr(trainjob_status, "endpoint", lambda: server.target._replace(**{broken: wrong}))
    data = write_corpus(tmp_path / "data")
    assert train(arguments(data, tmp_path / "run")) == 0
    trackers = Trackers(tmp_path / "again", {"status": TrainJobStatus})
    trackers.begin("r", {"max_iters": 10})
    trackers.log(1, {"loss": 1.0})
    trackers.close()
    assert server.bodies == []


@pytest.mark.parametrize("prefix", ["KUBEFLOW_TRAINER_SERVER_", "KUBEFLOW_TRAINER_STATUS_"])
def test_the_variables_of_releases_and_of_the_proposal_are_known(server: Server, prefix: str) -> None:
    assert endpoint(server.environment(prefix)) == server.target


def test_only_a_training_in_a_trainjob_has_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint({}) is None
    plain = server.environment() | {"KUBEFLOW_TRAINER_SERVER_URL": "http://10.0.0.1/status"}
    assert endpoint(plain) is None, "no token goes over a line that is not encrypted"
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)

    assert "the TrainJob's status" in wanted()
    assert "the TrainJob's status" not in wanted(evaluates=True)


@pytest.mark.parametrize("seconds_left", [None, 0.4, 1e300, math.nan])
def test_a_trainjobs_schema_takes_whatever_a_run_says(seconds_left: float | None) -> None:
    metrics = {
        f"metric {n} with a name that is longer than anybody needs it, {'x' * 40}": 1 / 3 for n in range(300)
    }
    body = status(999, 100, seconds_left, {"loss": math.nan, "": 1.0} | metrics, 1.8e9)
    assert body["trainerStatus"]["progressPercentage"] == 100
    job = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {}, "spec": {}}
    assert [p for p in problems(job | {"status": body}) if p.path.startswith("status")] == []
    assert [p.path for p in problems(job | {"status": {"trainerStatus": {"progress": 3}}})][-1].startswith(
        "status"
    )

"""The cluster that jobctl talks to, as whom, and what it says where none answers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from kubernetes.config import incluster_config

import jobctl.k8s.api
import jobctl.k8s.connection
from jobctl.k8s.api import Api
from jobctl.k8s.resources import PYTORCHJOB
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import furnish, granted, made
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ApiServer]:
    """A second cluster."""
    server = ApiServer(tmp_path / "other")
    server.rights = granted()
    furnish(server)
    yield server
    server.close()


def test_a_context_chooses_the_cluster_and_the_verbs_remember_it(
    server: ApiServer, other: ApiServer, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = server.kubeconfig()
    config, second = yaml.safe_load(file.read_text()), yaml.safe_load(other.kubeconfig().read_text())
    for kind in ("cluster", "user"):
        config[f"{kind}s"].append({**second[f"{kind}s"][0], "name": "other"})
    config["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "other"}})
    file.write_text(yaml.safe_dump(config))
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "there", "--context", "other")[0] == 0
    assert (len(made(server)), len(made(other))) == (0, 2)
    assert jobctl_says(capfd, "status", "there")[0] == 0
    assert jobctl_says(capfd, "list", "--target", "k8s", "--context", "other")[1].count("there") == 2
    assert "there" not in jobctl_says(capfd, "list", "--target", "k8s")[1]


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (None, 0, 0),
        ("", 0, 0),
        ("7", 7, 7),
        ("Mon, 30 Nov 2020 10:00:00 GMT", 0, 0),  # is over
        ("IN_A_MINUTE", 50, 60),
        ("soon", 0, 0),
        ("-5", 0, 0),
    ],
)
def test_a_server_asks_for_a_pause_in_seconds_or_with_a_date(
    asked: str | None, least: float, most: float
) -> None:
    if asked == "IN_A_MINUTE":
        asked = format_datetime(datetime.now(timezone.utc) + timedelta(minutes=1), usegmt=True)

    response = SimpleNamespace(headers={} if asked is None else {"Retry-After": asked})
    assert least <= jobctl.k8s.connection._wait_asked_by(response) <= most


def self_signed(folder: Path) -> Path:
    """A key and its certificate, which is in ca.crt beside it, and which nobody trusts."""
    certificate = folder / "server.pem"
    words = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=test", "-days", "2"]
    words += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(certificate),
        "-out",
        str(folder / "ca.crt"),
    ]
    subprocess.run(words, check=True, capture_output=True)
    with certificate.open("a") as file:
        file.write((folder / "ca.crt").read_text())
    return certificate


def test_in_a_pod_its_service_account_is_taken_and_its_token_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    server = ApiServer(tmp_path / "cluster", certificate)
    server.rights = granted()
    token = tmp_path / "token"
    token.write_text("good")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    api = Api()
    assert api.list_all(PYTORCHJOB, "jobctl") == []
    server.tokens = {"renewed"}
    token.write_text("renewed")
    assert api.list_all(PYTORCHJOB, "jobctl") == []
    server.close()


def test_a_context_that_is_not_there_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--context", "nowhere")
    assert (code, "context nowhere" in err) == (2, True)
    assert err.rstrip().endswith("the kubeconfig has: test")


def test_without_a_kubeconfig_there_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert code == 2
    assert f"no cluster is configured: KUBECONFIG is {tmp_path / 'none'}, and this file does not exist" in err


def test_a_certificate_that_is_not_trusted_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once it was asked for a minute, and the VPN was blamed."""
    server = ApiServer(tmp_path / "cluster", self_signed(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig()))
    PYTORCH.clusters.forget()
    code, _, err = jobctl_says(capfd, "list", "--target", "k8s")
    server.close()
    assert (code, "the certificate of https://127.0.0.1" in err) == (1, True)
    assert "trying again" not in err
    assert "VPN" not in err


@pytest.mark.parametrize("text", [b"\x00\x01: [", b"just text", b"a: [1", b"clusters: 3", b"[]", b"\xe9\xe9"])
def test_a_kubeconfig_that_is_none_is_named(
    text: bytes, server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    file = server.kubeconfig()
    file.write_bytes(text)
    code, _, err = jobctl_says(capfd, "list", "--target", "k8s")
    assert code == 2
    assert f"kubeconfig {file} cannot be read: " in err
    assert "Traceback" not in err


def test_a_server_that_is_no_address_is_said_at_once(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    file = server.kubeconfig()
    file.write_text(file.read_text().replace(server.url, "not a url"))
    code, _, said = jobctl_says(capfd, "list", "--target", "k8s")
    assert code == 1
    assert "server 'not a url' in the kubeconfig is not an address" in said
    assert "trying again" not in said


@pytest.mark.parametrize("name", ["a b", "../kube-system", "A", ""])
def test_a_namespace_that_can_be_none_is_wrong_usage(
    server: ApiServer, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, said = jobctl_says(capfd, "list", "--target", "k8s", "--namespace", name)
    assert code == 2
    assert "it must be a name of small letters, digits" in said
    assert server.requests == []


NAMELESS = "context nope: it is not in the kubeconfig"


@pytest.mark.parametrize("verb", ["status", "describe", "wait", "cancel", "logs", "list"])
def test_a_context_that_the_kubeconfig_does_not_have_is_wrong_usage(
    server: ApiServer, verb: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "first")[0] == 0
    words = [verb] if verb == "list" else [verb, "first"]
    code, out, err = jobctl_says(capfd, *words, "--context", "nope")
    assert (code, out) == (2, "")
    assert err == f"jobctl: {NAMELESS}\n  the kubeconfig has: test\n"


def test_an_expired_token_is_renewed(server: ApiServer) -> None:
    api = Api()
    server.tokens = {"renewed"}
    server.kubeconfig("renewed")
    assert api.list_all(PYTORCHJOB, "jobctl") == []


def test_credentials_that_cannot_be_renewed_are_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.tokens = set()
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "does not accept your credentials" in err) == (1, True)


def test_nobody_answering_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobctl.k8s.connection, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, reset=True)]
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "no API server answers at" in err) == (1, True)


def test_a_server_that_stays_ill_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobctl.k8s.connection, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, status=500)]
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "answers 500" in err) == (1, True)


def test_a_slow_server_is_not_asked_twice(server: ApiServer) -> None:
    server.faults = [Fault(times=1, seconds=0.5)]
    Api().list_all(PYTORCHJOB, "jobctl")
    assert len(server.requests) == 1

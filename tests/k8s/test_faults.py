"""A server that is slow, overloaded, restarting, or has had enough of a token: jobctl comes through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import k8s.api
from jobs.catalog.errors import UserError
from k8s.api import Api
from k8s.resources import CONFIG_MAP, PYTORCHJOB
from k8s.target import PYTORCH
from tests.k8s.conftest import spec_of
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": "0"},
        {"status": 500},
        {"status": 503},
        {"reset": True},
        {"seconds": 0.3},
    ],
    ids=str,
)
def test_a_submission_comes_through_at_whichever_request(server: ApiServer, fault: dict[str, object]) -> None:
    """Each request fails once; the objects are there once, and whole."""
    seen: set[tuple[str, str]] = set()

    def first_time(method: str, path: str) -> bool:
        new = (method, path) not in seen
        seen.add((method, path))
        return new

    server.faults = [Fault(first_time, times=100, **fault)]  # type: ignore[arg-type]
    started = PYTORCH.start(spec_of())
    assert started.job_id == "demo"
    assert sorted(key[1] for key in server.store.objects) == ["configmaps", "pytorchjobs"]
    assert not PYTORCH.start(spec_of()).new


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
    monkeypatch.setattr(k8s.api, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, reset=True)]
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "no API server answers at" in err) == (1, True)


def test_a_server_that_stays_ill_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k8s.api, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, status=500)]
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "answers 500" in err) == (1, True)


def test_a_cluster_that_does_not_answer_hides_no_other_runs(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "one")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "two")
    monkeypatch.setattr(k8s.api, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, reset=True)]
    code, out, _ = jobctl_says(capfd, "list", "--json")
    assert (code, [run["state"] for run in json.loads(out)]) == (0, ["unknown", "unknown"])


def test_nothing_stays_behind_when_the_job_is_refused(server: ApiServer) -> None:
    server.store.quota["pytorchjobs"] = (
        'pytorchjobs.kubeflow.org "demo" is forbidden: exceeded quota: gpus, requested: '
        "requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
    )
    with pytest.raises(UserError, match="quota gpus is exhausted"):
        PYTORCH.start(spec_of())
    assert not server.store.objects


def test_a_submission_that_broke_off_in_the_middle_is_completed(server: ApiServer) -> None:
    PYTORCH.start(spec_of())
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    server.store.patch(
        "v1", "configmaps", "jobctl", "demo", {"metadata": {"annotations": {"jobctl/job": None}}}
    )
    assert PYTORCH.start(spec_of()).new
    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")


def test_long_lists_come_in_pages(server: ApiServer) -> None:
    for number in range(1203):
        thing = {"metadata": {"name": f"c{number}", "labels": {"a": "b"}}, "data": {}}
        server.store.apply("v1", "configmaps", "jobctl", {"apiVersion": "v1", "kind": "ConfigMap", **thing})
    assert len(Api().list_all(CONFIG_MAP, "jobctl", labelSelector="a=b")) == 1203
    assert sum("continue" in path for _, path in server.requests) == 2


def test_a_slow_server_is_not_asked_twice(server: ApiServer) -> None:
    server.faults = [Fault(times=1, seconds=0.5)]
    Api().list_all(PYTORCHJOB, "jobctl")
    assert len(server.requests) == 1


def test_a_context_that_is_not_there_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--context", "nowhere")
    assert (code, "context nowhere" in err) == (2, True)


def test_without_a_kubeconfig_there_is_a_message(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "no cluster is configured" in err) == (2, True)

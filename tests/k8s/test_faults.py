"""A server that is slow, overloaded, restarting, or has had enough of a token: jobctl comes through."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import jobctl.k8s.api
import jobctl.k8s.connection
from jobctl.jobs.core.errors import UserError
from jobctl.k8s import names
from jobctl.k8s.api import Api
from jobctl.k8s.resources import CONFIG_MAP, PYTORCHJOB
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, made, spec_of
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says, until

ENDED = {"conditions": [{"type": "Succeeded", "status": "True"}]}


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": "0"},
        {"status": 500},
        {"status": 503},
        {"reset": True},
        {"lost": True},
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
    assert apply(PYTORCH, spec_of())
    assert made(server) == ["configmaps", "pytorchjobs"]
    server.faults = []
    assert not apply(PYTORCH, spec_of())


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


def test_a_cluster_that_does_not_answer_hides_no_other_runs(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "one")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "two")
    monkeypatch.setattr(jobctl.k8s.connection, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, reset=True)]
    code, out, _ = jobctl_says(capfd, "list", "--json")
    assert (code, [run["state"] for run in json.loads(out)]) == (0, ["unknown", "unknown"])


def test_nothing_stays_behind_when_the_job_is_refused(server: ApiServer) -> None:
    server.store.quota["pytorchjobs"] = (
        'pytorchjobs.kubeflow.org "demo" is forbidden: exceeded quota: gpus, requested: '
        "requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
    )
    with pytest.raises(UserError, match="quota gpus is exhausted"):
        apply(PYTORCH, spec_of())
    assert made(server) == []


def test_a_submission_that_broke_off_in_the_middle_is_completed(server: ApiServer) -> None:
    apply(PYTORCH, spec_of())
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    server.store.patch(
        "v1", "configmaps", "jobctl", "demo", {"metadata": {"annotations": {"jobctl/job": None}}}
    )
    assert apply(PYTORCH, spec_of())
    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")


def test_long_lists_come_in_pages(server: ApiServer) -> None:
    for number in range(1203):
        thing = {"metadata": {"name": f"c{number}", "labels": {"a": "b"}}, "data": {}}
        server.store.apply("v1", "configmaps", "jobctl", {"apiVersion": "v1", "kind": "ConfigMap", **thing})
    assert len(Api().list_all(CONFIG_MAP, "jobctl", labelSelector="a=b")) == 1203
    assert sum("continue" in path for _, path in server.requests) == 2


@pytest.mark.parametrize(
    "fault", [{"cut_after": 20}, {"status": 500}, {"status": 410}, {"reset": True}, {"status": 403}], ids=str
)
def test_wait_comes_through_watches_that_fail(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], fault: dict[str, object]
) -> None:
    cluster("sleep 1; exit 0")
    server.faults = [Fault(lambda _, path: "watch=true" in path, times=4, **fault)]  # type: ignore[arg-type]
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert jobctl_says(capfd, "wait", "demo", "--timeout", "60")[0] == 0
    assert any("watch=true" in path for _, path in server.requests)


def test_who_waits_is_told_and_does_not_ask_again_and_again(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('until [ -e "$run_dir/go" ]; do sleep 0.05; done; exit 0')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "demo: running" in jobctl_says(capfd, "status", "demo")[1])
    server.requests.clear()
    threading.Timer(2.0, (server.volume / "runs/demo/go").touch).start()
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert sum("pytorchjobs?" in path for _, path in server.requests) < 10


@pytest.mark.parametrize("faults", [{"stalls": True}, {}], ids=["stalls", "cut"])
def test_a_log_stream_that_breaks_within_a_line_loses_none_and_halves_none(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    faults: dict[str, bool],
) -> None:  # fmt: skip
    monkeypatch.setattr(jobctl.k8s.connection, "SILENCE", 0.5)
    cluster('for i in $(seq 40); do echo "line $i"; sleep 0.02; done; exit 0')
    server.faults = [
        Fault(lambda _, path: "/log" in path, cut_after=size, **faults) for size in (340, 505, 777)
    ]
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    lines = jobctl_says(capfd, "logs", "demo", "-f")[1].splitlines()
    assert lines[1:] == [f"line {i}" for i in range(1, 41)]
    assert all(fault.times == 0 for fault in server.faults)


def test_lines_of_the_same_instant_are_all_shown(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = {**names.selector("demo"), names.COMPONENT: "train"}
    ended = {"name": "pytorch", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    ended["state"] = {"terminated": {"exitCode": 0}}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo-master-0", "uid": "u", "labels": labels},
        "spec": {"containers": [{"name": "pytorch", "image": "i"}]}, "status": {"containerStatuses": [ended]},
    }  # fmt: skip
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    server.store.create("v1", "pods", "jobctl", pod)
    server.logs["u"] = [("2026-11-25T10:00:00.000000001Z", text) for text in ("a", "b", "b", "c")]
    server.faults = [Fault(lambda _, path: "/log" in path, cut_after=70)]
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": ENDED})
    assert jobctl_says(capfd, "logs", "demo", "-f")[1].split() == ["a", "b", "b", "c"]


def test_a_token_that_expires_in_the_middle_of_collect_is_renewed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")

    def expires(_: str, path: str) -> bool:
        if "/exec" in path and server.tokens == {"good"}:
            server.tokens = {"renewed"}
            server.kubeconfig("renewed")
        return False

    server.faults = [Fault(expires)]
    assert jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))[0] == 0
    assert server.tokens == {"renewed"}
    assert (tmp_path / "out/run.json").exists()


@pytest.mark.parametrize(
    "fault", [{"lost": True}, {"status": 429}, {"status": 500}, {"reset": True}], ids=str
)
def test_collect_comes_through_at_whichever_request(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path, fault: dict[str, object]
) -> None:  # fmt: skip
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    seen: set[tuple[str, str]] = set()

    def first_time(method: str, path: str) -> bool:
        key = (method, path.split("?")[0] + ("tar" if "tar" in path else ""))
        new = key not in seen
        seen.add(key)
        return new

    server.faults = [Fault(first_time, times=100, **fault)]  # type: ignore[arg-type]
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert code == 0, err
    assert (tmp_path / "out/attempts/1.json").exists()
    assert not server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/component=reader")


def test_a_slow_server_is_not_asked_twice(server: ApiServer) -> None:
    server.faults = [Fault(times=1, seconds=0.5)]
    Api().list_all(PYTORCHJOB, "jobctl")
    assert len(server.requests) == 1

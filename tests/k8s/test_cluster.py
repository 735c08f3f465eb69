"""What one look at a namespace asks for, and how long its answer is good for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jobctl.k8s.cluster
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.k8s import names
from jobctl.k8s.cluster import MOST_PODS, Clusters
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import PYTORCHJOB
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import FINISH, SMOKE, jobctl_says, until


def test_events_are_asked_for_by_the_objects_of_the_run(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH).unschedulable = {"demo-master-0": "no GPU is free"}
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "no GPU is free" in jobctl_says(capfd, "status", "demo")[1])
    asked = [path for _, path in server.requests if "/events" in path]
    assert asked
    assert all("involvedObject.name" in path for path in asked)


def test_how_a_run_ended_is_known_when_the_operator_was_removed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    assert json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["state"] == "finished"


@pytest.fixture
def clusters(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Clusters:
    """Clusters whose answers stay good until they are forgotten."""
    monkeypatch.setattr(jobctl.k8s.cluster, "ANSWER_SECONDS", 1e6)
    return Clusters(PYTORCHJOB)


def submitted(*names: str) -> list[Run]:
    for name in names:
        apply(PYTORCH, spec_of(name))

    return PYTORCH.store(spec_of().site, Path("/no/home")).find_all()


def test_an_answer_is_good_for_a_while(server: ApiServer, clusters: Clusters) -> None:
    """A jobctl that waits asks often, and one API server serves everybody."""
    runs = submitted("one", "two")
    first = clusters.look(runs)
    asked = len(server.requests)
    assert clusters.look(runs) is first
    assert len(server.requests) == asked
    assert clusters.look(runs, fresh=True) is not first
    clusters.forget_answers()
    asked = len(server.requests)
    clusters.look(runs)
    assert len(server.requests) > asked


def test_an_answer_about_one_run_is_not_taken_for_one_about_all(
    server: ApiServer, clusters: Clusters
) -> None:
    runs = submitted("one", "two")
    only = clusters.look(runs[:1])
    both = clusters.look(runs)
    assert [job["metadata"]["name"] for _, job in only.jobs] == ["one"]
    assert sorted(job["metadata"]["name"] for _, job in both.jobs) == ["one", "two"]


def test_a_cluster_is_connected_once(server: ApiServer, clusters: Clusters) -> None:
    site = spec_of().site
    api = clusters.api(site)
    assert clusters.api(site) is api
    clusters.forget_answers()
    assert clusters.api(site) is api
    clusters.forget()
    assert clusters.api(site) is not api


def test_a_run_of_which_nothing_is_there_has_no_record(server: ApiServer, clusters: Clusters) -> None:
    (run,) = submitted("demo")
    assert clusters.find(run).newest_job(run) is not None
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    assert clusters.find(run, fresh=True).newest_job(run) is None
    server.store.delete("v1", "configmaps", "jobctl", "demo")
    with pytest.raises(UserError, match="no record of run 'demo'"):
        clusters.find(run, fresh=True)


def test_a_kind_of_kubernetes_itself_that_is_refused_is_not_passed_over(
    server: ApiServer, clusters: Clusters
) -> None:
    """An operator may be gone. Where Jobs cannot be listed, a run that works would be called lost."""
    (run,) = submitted("demo")
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    assert clusters.look([run]).jobs == []
    del server.store.served["batch/v1", "jobs"]
    with pytest.raises(Refused):
        clusters.look([run], fresh=True)


def test_what_is_at_work_is_named(server: ApiServer, clusters: Clusters) -> None:
    (run,) = submitted("demo")
    assert clusters.look([run]).at_work() == ["job demo"]
    ended = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": ended})
    assert clusters.look([run], fresh=True).at_work() == []
    status = {"containerStatuses": [{"name": "pytorch", "state": {"running": {}}}]}
    labels = names.selector("demo") | {names.COMPONENT: "train"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "demo-master-0", "labels": labels},
        "spec": {"containers": [{"name": "pytorch", "image": "i"}]},
    }
    server.store.create("v1", "pods", "jobctl", pod)
    server.store.patch("v1", "pods", "jobctl", "demo-master-0", {"status": {"phase": "Running", **status}})
    assert clusters.look([run], fresh=True).at_work() == ["pod demo-master-0"]


def test_of_many_waiting_pods_a_few_are_asked_for(server: ApiServer, clusters: Clusters) -> None:
    """The others wait for the same reason."""
    apply(PYTORCH, spec_of("demo", nodes=9))
    run = PYTORCH.store(spec_of().site, Path("/no/home")).find("demo")
    assert run is not None
    for number in range(8):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"demo-worker-{number}", "labels": names.selector("demo")},
            "spec": {"containers": [{"name": "pytorch", "image": "i"}]},
        }
        server.store.create("v1", "pods", "jobctl", pod)

    clusters.look([run])
    asked = [path for _, path in server.requests if "/events" in path and "demo-worker" in path]
    assert len(asked) == MOST_PODS

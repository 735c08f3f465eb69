"""Objects of a cluster over HTTP: read, listed in pages, watched, changed and deleted."""

from __future__ import annotations

import threading

import pytest

from jobctl.k8s.api import Api
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import CONFIG_MAP, PYTORCHJOB, Object
from tests.k8s.conftest import MakeCluster, made
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says, until


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


def config_map(name: str, **labels: str) -> Object:
    metadata = {"name": name, "namespace": "jobctl", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}


def test_a_missing_object_is_none_and_a_missing_kind_is_refused(server: ApiServer) -> None:
    api = Api()
    assert api.get(CONFIG_MAP, "jobctl", "nothing") is None
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    with pytest.raises(Refused) as refusal:
        api.get(PYTORCHJOB, "jobctl", "nothing")

    assert refusal.value.status == 404
    assert not refusal.value.object_missing


def test_a_kind_is_served_where_its_group_lists_it(server: ApiServer) -> None:
    api = Api()
    assert api.serves(PYTORCHJOB)
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    assert not api.serves(PYTORCHJOB)


def test_a_dry_run_makes_nothing(server: ApiServer) -> None:
    api = Api()
    api.create(CONFIG_MAP, config_map("demo"), dry_run=True)
    api.apply(CONFIG_MAP, config_map("demo"), dry_run=True)
    assert made(server) == []
    api.create(CONFIG_MAP, config_map("demo"))
    assert made(server) == ["configmaps"]


def test_of_two_who_make_one_object_the_second_is_refused(server: ApiServer) -> None:
    """The claim on a run's name stands on that."""
    Api().create(CONFIG_MAP, config_map("demo"))
    with pytest.raises(Refused) as refusal:
        Api().create(CONFIG_MAP, config_map("demo"))

    assert refusal.value.status == 409


def test_an_annotation_is_set_and_taken_away_and_the_others_stay(server: ApiServer) -> None:
    api = Api()
    api.create(CONFIG_MAP, config_map("demo"))
    api.annotate(CONFIG_MAP, "jobctl", "demo", job="7", ended="finished")
    api.annotate(CONFIG_MAP, "jobctl", "demo", ended=None)
    thing = api.get(CONFIG_MAP, "jobctl", "demo")
    assert thing is not None
    assert thing["metadata"]["annotations"] == {"jobctl/job": "7"}


def test_what_is_deleted_already_is_no_error_and_what_is_forbidden_is_one(server: ApiServer) -> None:
    api = Api()
    api.delete(CONFIG_MAP, "jobctl", "nothing")
    server.rights -= {("", "configmaps", "delete")}
    api.create(CONFIG_MAP, config_map("demo"))
    with pytest.raises(Refused) as refusal:
        api.delete(CONFIG_MAP, "jobctl", "demo")

    assert refusal.value.status == 403


def test_the_user_is_asked_for_once(server: ApiServer) -> None:
    api = Api()
    assert (api.user(), api.user()) == ("ann", "ann")
    assert len(server.requests) == 1


def test_a_server_that_does_not_know_the_question_names_no_user(server: ApiServer) -> None:
    server.faults = [Fault(status=404)]
    assert Api().user() == ""


def test_a_change_since_the_list_ends_the_wait_at_once(server: ApiServer) -> None:
    """Also one that happened before the watch began: else it would be seen a minute later."""
    server.rights |= {("", "configmaps", "watch")}
    api = Api()
    _, version = api.list_at(CONFIG_MAP, "jobctl", labelSelector="a=b")
    api.create(CONFIG_MAP, config_map("demo", a="b"))
    api.wait_for_change(CONFIG_MAP, "jobctl", since=version, seconds=600, labelSelector="a=b")
    assert "resourceVersion=" + version in server.requests[-1][1]


def test_a_change_of_another_object_does_not_end_the_wait(server: ApiServer) -> None:
    server.rights |= {("", "configmaps", "watch")}
    api = Api()
    _, version = api.list_at(CONFIG_MAP, "jobctl", labelSelector="a=b")
    api.create(CONFIG_MAP, config_map("other", a="c"))
    waiting = threading.Thread(
        target=api.wait_for_change,
        args=(CONFIG_MAP, "jobctl"),
        kwargs={"since": version, "seconds": 600, "labelSelector": "a=b"},
        daemon=True,
    )
    waiting.start()
    until(lambda: any("watch=true" in path for _, path in server.requests))
    assert waiting.is_alive()
    api.create(CONFIG_MAP, config_map("demo", a="b"))
    waiting.join(60)
    assert not waiting.is_alive()

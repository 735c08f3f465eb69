"""A node that dies: nobody waits for it without end, its pods are taken away, and the next attempt avoids it."""

from __future__ import annotations

import time

import pytest

from jobctl.k8s import nodes
from jobctl.k8s.api import Api
from jobctl.k8s.pods import Ending, Pod
from tests.k8s.cluster import Cluster
from tests.k8s.conftest import MakeCluster, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_pods import start
from tests.k8s.test_verbs import jobctl_says, record_of, until

TRAINS = 'touch "$run_dir/up-$node"; sleep 60'


def pod(name: str = "demo-worker-0", **facts: object) -> Pod:
    known = {"uid": name, "index": 1, "phase": "Running", "created": "", "node": "n1", "running": True}
    return Pod(name=name, **{**known, **facts})  # type: ignore[arg-type]


def node(server: ApiServer, name: str, ready: str) -> None:
    """What the control plane says of a node; Unknown when its kubelet is silent."""
    thing = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    server.store.create("v1", "nodes", "", {**thing, "status": status})


def long_ago() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))


def test_a_pod_is_late_only_after_its_grace_period() -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    assert not nodes.is_late(pod())
    assert not nodes.is_late(pod(deleted=soon))
    assert nodes.is_late(pod(deleted=long_ago()))


def test_a_slow_pod_of_a_living_node_is_not_dead(server: ApiServer) -> None:
    node(server, "n1", "True")
    assert nodes.dead_pods(Api(), [pod(deleted=long_ago())]) == []


@pytest.mark.parametrize(("ready", "is_gone"), [("Unknown", False), (None, True)])
def test_without_a_word_only_pods_of_a_node_that_is_gone_are_removed(
    server: ApiServer, ready: str | None, is_gone: bool
) -> None:
    if ready:
        node(server, "n1", ready)
    (dead,) = nodes.dead_pods(Api(), [pod(deleted=long_ago())])
    assert dead.node_is_gone == is_gone
    assert bool(nodes.remove_dead(Api(), "jobctl", [dead.pod], force=False)) == is_gone
    assert nodes.remove_dead(Api(), "jobctl", [dead.pod], force=True) == [dead]


def test_who_may_not_see_nodes_must_say_the_word(server: ApiServer) -> None:
    server.cluster_rights -= {("", "nodes", "get")}
    late = [pod(deleted=long_ago())]
    assert nodes.remove_dead(Api(), "jobctl", late, force=False) == []
    assert len(nodes.remove_dead(Api(), "jobctl", late, force=True)) == 1


def test_nodes_that_died_or_were_unfit_are_avoided() -> None:
    unfit = pod(ending=Ending(attempt=1, exit_code=201, reason="hardware", bad_nodes="n3,n4"))
    dead = [nodes.DeadPod(pod(), node_is_gone=False)]
    avoided = nodes.avoided_nodes({"jobctl/avoid": "n9"}, [unfit], dead)
    assert avoided == ["n1", "n3", "n4", "n9"]
    spec = spec_of(named={"exclude": "n3,n7"})
    assert nodes.avoiding(spec, avoided).site.exclude == "n3,n7,n1,n4,n9"
    assert nodes.avoiding(spec, []) == spec


def test_a_pod_waits_for_the_others_only_so_long(
    server: ApiServer, cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.k8s.manifest.START_SECONDS", 1)
    running = cluster("exit 0")
    running.unschedulable = {"demo-worker-0": "no GPU is free"}
    start(running, nodes=2, max_attempts=2)
    until(lambda: record_of(server, "demo", 2).get("reason") is not None)
    first = record_of(server, "demo", 1)
    assert (first["exit_code"], first["reason"]) == (200, "requeued")


def dying(server: ApiServer, running: Cluster) -> None:
    """The node of the second pod dies, and the control plane notices it and deletes the pod."""
    start(running, nodes=2)
    until(lambda: (server.volume / "runs/demo/up-1").exists())
    running.kill_node_of("demo-worker-0")
    node(server, "node-0", "Unknown")
    server.store.delete("v1", "pods", "jobctl", "demo-worker-0", grace=1)
    server.store.patch(
        "v1", "pods", "jobctl", "demo-worker-0", {"metadata": {"deletionTimestamp": long_ago()}}
    )


def test_a_dead_nodes_pod_is_named_and_goes_by_an_explicit_word(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    dying(server, cluster(TRAINS))
    status = jobctl_says(capfd, "status", "demo", "--target", "k8s")[1]
    assert "demo-worker-0: was deleted and had to end by" in status
    assert "on node-0; if you know that the node is off: jobctl cancel demo --force" in status

    assert jobctl_says(capfd, "cancel", "demo", "--target", "k8s")[0] == 0
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo", "--target", "k8s")[1])
    assert "jobctl cancel demo --force" in jobctl_says(capfd, "status", "demo", "--target", "k8s")[1]
    assert jobctl_says(capfd, "wait", "demo", "--target", "k8s", "--timeout", "20")[0] == 1
    code, _, err = jobctl_says(capfd, "resume", "demo", "--target", "k8s")
    assert (code, "their nodes do not answer: demo-worker-0 on node-0" in err) == (1, True)
    assert "jobctl cancel demo --force, then jobctl resume demo" in err
    code, out, err = jobctl_says(capfd, "cancel", "demo", "--target", "k8s", "--force")
    assert (code, "demo-worker-0 on node-0" in out) == (0, True), err
    names = [p["metadata"]["name"] for p in server.store.list_all("v1", "pods", "jobctl")]
    assert "demo-worker-0" not in names

    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo", "--target", "k8s")[1])
    code, _, err = jobctl_says(capfd, "resume", "demo", "--target", "k8s")
    assert (code, "avoid node-0" in err) == (0, True)
    job = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    assert "'operator': 'NotIn', 'values': ['node-0']" in str(job)


def test_a_cancelled_run_goes_on_elsewhere_when_its_dead_node_is_gone(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    dying(server, cluster(TRAINS))
    assert jobctl_says(capfd, "cancel", "demo", "--target", "k8s")[0] == 0
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo", "--target", "k8s")[1])
    server.store.delete("v1", "nodes", "", "node-0")
    code, _, err = jobctl_says(capfd, "resume", "demo", "--target", "k8s")
    assert (code, "avoid node-0" in err) == (0, True), err


def test_a_dead_nodes_pod_that_still_has_time_is_named_with_it(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    running = cluster(TRAINS)
    start(running, nodes=2)
    until(lambda: (server.volume / "runs/demo/up-1").exists())
    running.kill_node_of("demo-worker-0")
    node(server, "node-0", "Unknown")
    code, _, err = jobctl_says(capfd, "cancel", "demo", "--target", "k8s", "--force")
    assert code == 1
    assert "-0 may still end by itself until" in err
    assert "though node-0 does not answer" in err


def test_the_attempt_of_a_first_pod_that_was_killed_gets_an_end(
    server: ApiServer, cluster: MakeCluster
) -> None:
    running = cluster('[ "$attempt" = 2 ] && exit 0; touch "$run_dir/up"; sleep 60')
    start(running, nodes=1)
    until((server.volume / "runs/demo/up").exists)
    server.store.delete("v1", "pods", "jobctl", "demo-master-0", grace=0)
    until(lambda: record_of(server, "demo", 2).get("reason") == "finished")
    first = record_of(server, "demo", 1)
    assert first["end"]
    assert first["reason"] == "requeued"

"""Free GPUs of a cluster, from what nodes have and pods ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobctl.jobs.targets.protocol import NodeCapacity
from jobctl.k8s.capacity import capacity_of, held_gpus
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import jobctl_says

GPU = "nvidia.com/gpu"
LABEL = "nvidia.com/gpu.product"


def node(name: str, gpus: int = 8, ready: str = "True", unschedulable: bool = False) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "H100"}},
        "spec": {"unschedulable": unschedulable},
        "status": {"allocatable": {GPU: str(gpus)}, "conditions": [{"type": "Ready", "status": ready}]},
    }


def pod(name: str, on: str, gpus: int, phase: str = "Running") -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": {"limits": {GPU: gpus}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "jobctl"},
        "spec": {"containers": [container], "nodeName": on},
        "status": {"phase": phase},
    }


def test_a_pod_holds_what_it_asks_for_until_it_has_ended() -> None:
    pods = [pod("a", "n1", 4), pod("b", "n1", 2), pod("c", "n1", 8, "Succeeded"), pod("d", "n2", 1)]
    assert held_gpus(pods, GPU) == {"n1": 6, "n2": 1}


def test_init_containers_run_before_and_not_beside() -> None:
    thing = pod("a", "n1", 4)
    thing["spec"]["initContainers"] = [{"name": "i", "resources": {"limits": {GPU: 6}}}]
    assert held_gpus([thing], GPU) == {"n1": 6}


@pytest.mark.parametrize(
    ("thing", "state"),
    [
        (node("n"), "ready"),
        (node("n", ready="Unknown"), "silent"),
        (node("n", unschedulable=True), "drained"),
    ],
)
def test_only_a_ready_node_takes_new_pods(thing: dict[str, Any], state: str) -> None:
    assert capacity_of(thing, {"n": 3}, GPU, LABEL) == NodeCapacity(
        name="n", product="H100", gpus=8, free=5, state=state
    )


def furnish(server: ApiServer) -> None:
    for thing in (node("n1"), node("n2", ready="Unknown"), node("cpu", gpus=0)):
        server.store.create("v1", "nodes", "", thing)
    server.store.create("v1", "pods", "jobctl", pod("a", "n1", 6))
    other = pod("b", "n1", 1)
    other["metadata"]["namespace"] = "others"
    server.store.namespaces.add("others")
    server.store.create("v1", "pods", "others", other)


def test_the_verb_counts_the_pods_of_all_namespaces(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    furnish(server)
    code, out, _ = jobctl_says(capfd, "nodes", "--target", "k8s", "--json")
    nodes = {each["name"]: (each["gpus"], each["free"], each["state"]) for each in json.loads(out)["nodes"]}
    assert (code, nodes) == (0, {"n1": (8, 1, "ready"), "n2": (8, 8, "silent")})
    assert jobctl_says(capfd, "nodes", "--target", "k8s")[1].splitlines()[-1].split() == ["all", "16", "1"]


def test_who_sees_one_namespace_is_told_so(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    furnish(server)
    server.cluster_rights -= {("", "pods", "list")}
    code, out, err = jobctl_says(capfd, "nodes", "--target", "k8s", "--json")
    assert (code, json.loads(out)["nodes"][0]["free"]) == (0, 2)
    assert "only the jobs of your namespace are visible" in err


def test_who_may_not_see_nodes_is_told_which_role_is_missing(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.cluster_rights = set()
    code, _, err = jobctl_says(capfd, "nodes", "--target", "k8s")
    assert (code, "ClusterRole jobctl-nodes" in err) == (1, True)


def test_a_target_without_nodes_says_so(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = jobctl_says(capfd, "nodes", "--target", "local")
    assert (code, "target local has no list of nodes" in err) == (2, True)

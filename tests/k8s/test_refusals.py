"""Recorded answers of a real API server: what we make of them, and that our own test server says the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from jobctl.k8s.refusals import refused
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import spec_of
from tests.k8s.refusal import Refusal
from tests.k8s.schemas import DATA
from tests.k8s.store import Store

WORDS = {
    "create-badfield": "the cluster does not know the field spec.numNodes",
    "create-badcontainer": "spec.pytorchReplicaSpecs.Master.template.spec.containers[0].imagee",
    "create-badtype": "spec.pytorchReplicaSpecs.Master.restartPolicy: must be of type string",
    "create-badmin": "spec.pytorchReplicaSpecs.Worker.replicas: Invalid value: -1: should be a non-negative integer",
    "create-noname": "spec.pytorchReplicaSpecs.Master.template.spec.containers[0].name: Required value",
    "create-wrongcontainername": "must have at least one container with name pytorch",
    "create-conflict": 'pytorchjobs.kubeflow.org "good" already exists',
    "job-badfield": "the cluster does not know the field spec.parallelizm",
    "job-badvalue": "spec.template.spec.restartPolicy: Required value",
    "pvc-badqty": "quantities must match",
    "unauthorized": "does not accept your credentials",
    "get-missing": '"good" not found',
    "no-crd": "the cluster does not serve this kind of object",
}


def recorded(name: str) -> tuple[int, bytes]:
    answer = json.loads((DATA / f"{name}.json").read_text())
    body = answer["body"]
    return answer["status"], body["text"].encode() if set(body) == {"text"} else json.dumps(body).encode()


@pytest.mark.parametrize("name", WORDS)
def test_a_recorded_refusal_in_our_words(name: str) -> None:
    refusal = refused(*recorded(name), "PyTorchJob good", "Kubeflow's training operator")
    assert WORDS[name] in str(refusal)
    assert "some validation rules" not in str(refusal)
    assert refusal.code == 1


def test_a_missing_object_is_not_a_missing_kind() -> None:
    assert refused(*recorded("get-missing"), "x").object_missing
    missing_kind = refused(*recorded("no-crd"), "x", "Kubeflow's training operator")
    assert not missing_kind.object_missing
    assert "is not installed" in missing_kind.hint


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'pytorchjobs.kubeflow.org is forbidden: User "ann" cannot create resource "pytorchjobs" in API group '
            '"kubeflow.org" in the namespace "lab"',
            "ann may not create pytorchjobs in namespace lab",
        ),
        (
            'pods "x" is forbidden: exceeded quota: q, requested: cpu=8, used: cpu=1, limited: cpu=4',
            "quota q is exhausted: asked for cpu=8, in use cpu=1, limit cpu=4",
        ),
        ('pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces', "host namespaces"),
    ],
)
def test_what_is_forbidden_says_why(message: str, words: str) -> None:
    body = json.dumps({"kind": "Status", "message": message, "reason": "Forbidden", "code": 403}).encode()
    assert words in str(refused(403, body, "x"))


def test_a_policy_of_the_cluster_is_named_once() -> None:
    """A cause of a ValidatingAdmissionPolicy has no field."""
    said = "ValidatingAdmissionPolicy 'pol' with binding 'all' denied request: no team label"
    body = {
        "kind": "Status",
        "reason": "Invalid",
        "code": 422,
        "message": f'pytorchjobs.kubeflow.org "x" is forbidden: {said}',
        "details": {"causes": [{"message": said}]},
    }
    refusal = refused(422, json.dumps(body).encode(), "PyTorchJob x")
    assert refusal.message == "PyTorchJob x: the cluster's policy pol refuses it: no team label"
    body["message"] = "something else"
    causes = json.dumps({**body, "details": {"causes": [{"message": "wrong"}]}}).encode()
    assert refused(422, causes, "PyTorchJob x").message == "PyTorchJob x: wrong"


def test_an_object_on_its_way_out_is_not_a_missing_name() -> None:
    store = Store()
    store.create("kubeflow.org/v1", "pytorchjobs", "jobctl", job())
    store.patch(
        "kubeflow.org/v1", "pytorchjobs", "jobctl", "good", {"metadata": {"deletionTimestamp": "now"}}
    )
    with pytest.raises(Refusal, match="object is being deleted") as refusal:
        store.create("kubeflow.org/v1", "pytorchjobs", "jobctl", job())
    body = json.dumps(refusal.value.status).encode()
    assert "try again" in refused(409, body, "PyTorchJob good").hint


def job() -> dict[str, Any]:
    return copy.deepcopy(list(yaml.safe_load_all(PYTORCH.render(spec_of("good", nodes=2))))[1])


def broken(path: str, value: object) -> dict[str, Any]:
    """A right job with one thing wrong: ``value`` at ``path``, or nothing there where it is None."""
    thing = job()
    *folders, last = path.split("/")
    place = thing
    for folder in folders:
        place = place[int(folder)] if isinstance(place, list) else place[folder]  # type: ignore[assignment]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return thing


WORKER = "spec/pytorchReplicaSpecs/Worker"
CONTAINER = f"{WORKER}/template/spec/containers/0"


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("create-badfield", "spec/numNodes", 2),
        ("create-badcontainer", f"{CONTAINER}/imagee", "x"),
        ("create-badtype", f"{WORKER}/restartPolicy", 3),
        ("create-badmin", f"{WORKER}/replicas", -1),
        ("create-noname", f"{CONTAINER}/name", None),
        ("create-wrongcontainername", f"{CONTAINER}/name", "trainer"),
    ],
)
def test_the_test_server_refuses_as_the_real_one_did(name: str, path: str, value: object) -> None:
    thing = broken(path, value)
    store = Store()
    with pytest.raises(Refusal) as refusal:
        store.create("kubeflow.org/v1", "pytorchjobs", "jobctl", thing)
    status, body = recorded(name)
    assert refusal.value.status["code"] == status
    assert refusal.value.status["reason"] == json.loads(body)["reason"]


def test_the_test_server_knows_conflicts() -> None:
    store = Store()
    store.create("kubeflow.org/v1", "pytorchjobs", "jobctl", job())
    with pytest.raises(Refusal, match="already exists"):
        store.create("kubeflow.org/v1", "pytorchjobs", "jobctl", job())
    with pytest.raises(Refusal, match="it was modified"):
        store.patch(
            "kubeflow.org/v1", "pytorchjobs", "jobctl", "good", {"metadata": {"resourceVersion": "1"}}
        )


def test_a_name_that_begins_with_a_digit_is_refused_by_the_webhook() -> None:
    thing = job()
    thing["metadata"]["name"] = "1good"
    with pytest.raises(Refusal, match="DNS-1035"):
        Store().create("kubeflow.org/v1", "pytorchjobs", "jobctl", thing)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            'non-default capabilities (container "pytorch" must not include "IPC_LOCK" in '
            "securityContext.capabilities.add)",
            "RDMA pins memory",
        ),
        (
            'runAsNonRoot != true (pod or container "init-pytorch" must set securityContext.runAsNonRoot=true)',
            "--target k8s-trainjob",
        ),
        (
            'runAsNonRoot != true (pod or container "init-pytorch-data" must set runAsNonRoot=true)',
            "check kubernetes.pod",
        ),
        ("host namespaces (hostNetwork=true)", "check kubernetes.pod"),
    ],
)
def test_a_security_level_is_answered_by_the_names_that_break_it(reason: str, words: str) -> None:
    message = f'pods "x" is forbidden: violates PodSecurity "restricted:latest": {reason}'
    body = json.dumps({"message": message, "reason": "Forbidden", "code": 403}).encode()
    refusal = refused(403, body, "x")
    assert "pod security level restricted forbids it" in refusal.message
    assert words in refusal.hint

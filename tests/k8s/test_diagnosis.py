"""What ``examine`` says of an ill cluster, and that it says nothing of a well one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml

from jobctl.jobs.catalog.schema.job import Resources
from jobctl.jobs.catalog.schema.kubernetes_section import KubernetesSection
from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.targets.protocol import Examines
from jobctl.k8s.diagnosis import CHECKS, ClusterFacts, examine, read_facts
from jobctl.k8s.resources import PYTORCHJOB, TRAINJOB
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MANIFESTS
from tests.k8s.server import ApiServer
from tests.k8s.test_capacity import node
from tests.k8s.test_verbs import jobctl_says

RUNTIME = yaml.safe_load((MANIFESTS / "trainer-v2" / "runtime.yaml").read_text())
CLAIM = yaml.safe_load((MANIFESTS / "volume.yaml").read_text())


def namespace(level: str) -> dict[str, Any]:
    return {"metadata": {"name": "jobctl", "labels": {"pod-security.kubernetes.io/enforce": level}}}


def site(**settings: Any) -> Site:
    return Site(kubernetes=msgspec.structs.replace(KubernetesSection(), **settings))


WELL = ClusterFacts(
    site=site(queue="research"),
    nodes_of_a_job=2,
    kinds=frozenset((PYTORCHJOB, TRAINJOB)),
    operator_schema='{"managedBy": {}}',
    trainer_schema='{"runtimePatches": {}}',
    runtime=RUNTIME,
    namespace=namespace("baseline"),
    claim=CLAIM,
    queue={"status": {"conditions": [{"type": "Active", "status": "True"}]}},
    cluster_nodes=(node("n1"), node("cpu", gpus=0)),
)
TRAIN_TOO = {"kind": TRAINJOB}
OLD_RUNTIME = yaml.safe_load((MANIFESTS / "trainer-v2" / "runtime.yaml").read_text().replace("[129,", "["))
WITHOUT_RULES = yaml.safe_load(
    (MANIFESTS / "trainer-v2" / "runtime.yaml")
    .read_text()
    .replace("[129, 130, 131, 132, 133, 134, 135, 136, 138,", "[138,")
)
ONE_NODE = {**CLAIM, "spec": {**CLAIM["spec"], "accessModes": ["ReadWriteOnce"]}}
INACTIVE = {"type": "Active", "status": "False", "message": "ClusterQueue research does not exist"}
UNLABELLED = {**node("n1"), "metadata": {"name": "n1"}}


def ill(**facts: Any) -> list[tuple[str, str]]:
    troubles = examine(msgspec.structs.replace(WELL, **facts))
    return [(each.check, f"{each.cause}: {each.evidence}") for each in troubles]


def test_a_well_cluster_has_nothing_to_say() -> None:
    assert examine(WELL) == []


def test_what_a_user_may_not_see_is_not_judged() -> None:
    unseen = ClusterFacts(site=site(queue="research"), kinds=frozenset((PYTORCHJOB,)))
    assert examine(unseen) == []


@pytest.mark.parametrize(
    ("facts", "check", "words"),
    [
        ({"kinds": frozenset()}, "operator", "no operator for distributed jobs"),
        ({"operator_schema": '{"cleanPodPolicy": {}}'}, "operator-version", "older than 1.9"),
        ({"kinds": frozenset((TRAINJOB,))}, "operator", "serves only TrainJob"),
        ({**TRAIN_TOO, "kinds": frozenset((PYTORCHJOB,))}, "operator", "serves only PyTorchJob"),
        (
            {**TRAIN_TOO, "trainer_schema": '{"podTemplateOverrides": {}}'},
            "trainer-version",
            "older than 2.2",
        ),
        ({**TRAIN_TOO, "runtime": None, "runtime_is_missing": True}, "runtime", "no ClusterTrainingRuntime"),
        ({**TRAIN_TOO, "runtime": OLD_RUNTIME}, "runtime", "another version of jobctl"),
        (
            {**TRAIN_TOO, "runtime": WITHOUT_RULES},
            "runtime",
            "containers for 56; this version restarts them for 65 and 64",
        ),
        ({"site": site(rdma_resource="rdma/ib")}, "pod-security", "pin memory; level baseline forbids that"),
        (
            {"namespace": namespace("restricted")},
            "pod-security",
            "level restricted refuses the init container",
        ),
        ({"claim": None, "claim_is_missing": True}, "volume", "no PersistentVolumeClaim jobctl-workspace"),
        ({"claim": ONE_NODE}, "volume", "only one node can mount the volume"),
        ({"claim": {**CLAIM, "status": {"phase": "Lost"}}}, "volume", "is lost"),
        ({"queue": None, "queue_is_missing": True}, "queue", "no LocalQueue research"),
        ({"queue": {"status": {"conditions": [INACTIVE]}}}, "queue", "ClusterQueue research does not exist"),
        ({"cluster_nodes": (node("n1", gpus=0),)}, "gpus", "no node offers nvidia.com/gpu"),
        ({"cluster_nodes": (UNLABELLED,)}, "gpus", "has the label nvidia.com/gpu.product"),
        ({"cluster_nodes": (node("n1", ready="Unknown"),)}, "gpus", "no node with GPUs answers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_ill_cluster_is_named_once(facts: dict[str, Any], check: str, words: str) -> None:
    ((found, text),) = ill(**facts)
    assert found == check
    assert words in text


def test_each_check_can_speak() -> None:
    assert len(CHECKS) == 8
    assert all(check.__doc__ for check in CHECKS)


def test_a_cluster_with_our_manifests_is_asked_and_well(server: ApiServer) -> None:
    server.store.create("v1", "nodes", "", node("n1"))
    server.store.create("trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes", "", RUNTIME)
    assert isinstance(PYTORCH, Examines)
    examination = PYTORCH.examine(site(), Resources(nodes=2))
    assert (examination.checks, examination.troubles) == (len(CHECKS) + 1, ())
    facts = read_facts(PYTORCH.clusters.api(site()), site(), PYTORCHJOB, Resources())
    assert facts.kinds == {PYTORCHJOB, TRAINJOB}
    assert "managedBy" in facts.operator_schema
    assert "runtimePatches" in facts.trainer_schema
    assert facts.claim is not None
    assert facts.cluster_nodes is not None


def test_a_cluster_without_our_manifests_says_what_is_missing(server: ApiServer) -> None:
    server.store.objects.clear()
    checks = [
        trouble.check for trouble in PYTORCH.examine(site(queue="research"), Resources(nodes=2)).troubles
    ]
    assert checks == ["volume", "queue", "gpus"]


@pytest.mark.parametrize("target", ["k8s", "k8s-trainjob"])
def test_doctor_looks_at_the_cluster(
    server: ApiServer, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    server.store.create("v1", "nodes", "", node("n1"))
    server.store.create("trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes", "", RUNTIME)
    code, out, _ = jobctl_says(capfd, "doctor", "--target", target)
    assert (code, out) == (0, f"{len(CHECKS) + 1} checks, no problems\n")
    words = ["--model", "qwen3_1.8b", "--nodes", "2", "--set", "kubernetes.queue=gone", "--json"]
    code, out, _ = jobctl_says(capfd, "doctor", "--target", target, *words)
    (finding,) = json.loads(out)["findings"]["the cluster"]
    assert (code, finding["check"]) == (1, "queue")


def test_doctor_knows_that_one_node_alone_can_mount_the_volume(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.store.create("v1", "nodes", "", node("n1"))
    server.store.create("trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes", "", RUNTIME)
    claim = server.store.objects["v1", "persistentvolumeclaims", "jobctl", "jobctl-workspace"]
    claim["spec"]["accessModes"] = ["ReadWriteOnce"]
    assert jobctl_says(capfd, "doctor", "--target", "k8s")[0] == 0
    code, out, _ = jobctl_says(capfd, "doctor", "--target", "k8s", "--nodes", "2")
    assert (code, "only one node can mount the volume, and a job has 2 nodes" in out) == (1, True)


def test_what_only_the_other_operator_lacks_is_a_note(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.store.create("v1", "nodes", "", node("n1"))
    cause = "the cluster has no ClusterTrainingRuntime for our TrainJobs"
    code, out, err = jobctl_says(capfd, "doctor", "--target", "k8s")
    assert (code, "no problems" in out) == (0, True)
    assert f"{cause}; only a TrainJob needs it: kubectl apply" in err
    code, out, err = jobctl_says(capfd, "doctor", "--target", "k8s-trainjob")
    assert (code, cause in out, "only a TrainJob" in err) == (1, True, False)


def test_a_job_without_gpus_wants_none_of_the_cluster(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.store.create("v1", "nodes", "", node("cpu", gpus=0))
    code, out, _ = jobctl_says(capfd, "doctor", "--target", "k8s")
    assert (code, "no node offers nvidia.com/gpu" in out) == (1, True)
    assert jobctl_says(capfd, "doctor", "--target", "k8s", "--model", "qwen3_smoke")[0] == 0


def test_a_cluster_with_trainer_alone_is_examined_for_trainjobs(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.store.create("v1", "nodes", "", node("n1"))
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    code, out, _ = jobctl_says(capfd, "doctor", "--target", "k8s")
    assert (code, "no ClusterTrainingRuntime" in out, "no operator" in out) == (1, True, False)

"""The versions of a cluster's operators, and what ``doctor`` says of those that are known to be faulty."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from jobctl.k8s.known_faults import OPERATORS, Running, faults_of, known_faults
from tests.k8s.conftest import MANIFESTS
from tests.k8s.server import ApiServer
from tests.k8s.test_capacity import node
from tests.k8s.test_diagnosis import RUNTIME
from tests.k8s.test_verbs import jobctl_says

IMAGES = {
    "training operator": "ghcr.io/kubeflow/training-v1/training-operator:v1-93c5489",
    "Kubeflow Trainer": "ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0",
    "JobSet": "registry.k8s.io/jobset/jobset:v0.12.0",
    "Kueue": "registry.k8s.io/kueue/kueue:v0.19.2",
}
"""As their authors' manifests name them."""


def test_each_entry_names_an_operator_a_public_number_and_versions_in_their_order() -> None:
    for fault in known_faults():
        assert fault.operator in OPERATORS
        assert re.fullmatch(r"[\w-]+/[\w-]+#\d+", fault.fault)
        assert fault.kind in ("", "PyTorchJob", "TrainJob")
        for version in (fault.since, fault.fixed):
            assert re.fullmatch(r"(\d+(\.\d+)+)?", version)
        if fault.since and fault.fixed:
            assert fault.is_in(Running(f"x:v{fault.since}").version)
        if fault.fixed:
            assert not fault.is_in(Running(f"x:v{fault.fixed}").version)
        assert fault.says
        assert fault.answer
    assert len({(fault.operator, fault.fault) for fault in known_faults()}) == len(known_faults())


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry.k8s.io/kueue/kueue:v0.19.2", (0, 19, 2)),
        ("mirror.example.org:5000/kueue:0.20.0-rc.1", (0, 20, 0)),
        ("registry.k8s.io/kueue/kueue:v0.19.2@sha256:0123", (0, 19, 2)),
        ("ghcr.io/kubeflow/training-v1/training-operator:v1-93c5489", ()),
        ("mirror.example.org:5000/kueue", ()),
        ("kueue@sha256:0123", ()),
        ("", ()),
    ],
)
def test_a_version_is_the_tag_of_the_image(image: str, version: tuple[int, ...]) -> None:
    assert Running(image).version == version


@pytest.mark.parametrize(
    ("operator", "version", "kind", "queue", "faults"),
    [
        ("training operator", "v1-93c5489", "PyTorchJob", "", ["kubeflow/trainer#3358", "kubeflow/trainer#2045"]),
        ("training operator", "v1-93c5489", "TrainJob", "", []),
        ("Kubeflow Trainer", "v2.1.0", "TrainJob", "", ["kubeflow/trainer#3779"]),
        ("Kubeflow Trainer", "v2.3.0", "TrainJob", "", ["kubeflow/trainer#3779", "kubeflow/trainer#3833"]),
        ("Kueue", "v0.16.9", "TrainJob", "research", ["kubernetes-sigs/kueue#10127"]),
        (
            "Kueue", "v0.19.2", "TrainJob", "research",
            ["kubeflow/trainer#3888", "kubernetes-sigs/kueue#15161"],
        ),
        ("Kueue", "v0.19.3", "TrainJob", "research", ["kubernetes-sigs/kueue#15161"]),
        ("Kueue", "v0.20.0", "TrainJob", "research", []),
        ("Kueue", "v0.19.2", "TrainJob", "", []),
        ("Kueue", "v0.18.0", "PyTorchJob", "research", []),
        ("Kueue", "v0.19.0", "PyTorchJob", "research", ["kubernetes-sigs/kueue#12606"]),
        ("Kueue", "latest", "TrainJob", "research", []),
    ],
)  # fmt: skip
def test_the_faults_of_a_version_that_touch_a_job(
    operator: str, version: str, kind: str, queue: str, faults: list[str]
) -> None:
    running = {operator: Running(f"registry.example.org/x:{version}")}
    assert [fault.fault for fault, _ in faults_of(running, kind, queue)] == faults


def install(server: ApiServer, **images: str) -> None:
    """Run operators, as an administrator has installed them."""
    server.store.create("v1", "nodes", "", node("n1"))
    server.store.create("trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes", "", RUNTIME)
    for operator, image in {**IMAGES, **images}.items():
        containers = [{"name": "manager", "image": image}]
        thing: dict[str, Any] = {
            "metadata": {"name": OPERATORS[operator]},
            "spec": {"template": {"spec": {"containers": containers}}},
        }
        server.store.create("apps/v1", "deployments", "", thing)


def test_doctor_says_versions_and_what_jobctl_minds(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    install(server)
    code, out, err = jobctl_says(capfd, "doctor", "--target", "k8s")
    assert code == 0, out
    assert (
        "the cluster runs training operator v1-93c5489, Kubeflow Trainer v2.3.0, JobSet v0.12.0, Kueue v0.19.2"
        in err
    )
    assert "training operator v1-93c5489: it checks a job's activeDeadlineSeconds" in err
    assert "(kubeflow/trainer#3358); nothing to do" in err
    assert "3779" not in err, "no TrainJob is made by this target"


def test_doctor_finds_what_will_keep_jobs_from_running(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    install(server)
    words = ["doctor", "--target", "k8s-trainjob", "--set", "kubernetes.queue=research"]
    code, out, _ = jobctl_says(capfd, *words)
    assert code == 1
    assert "Kueue v0.19.2: a TrainJob that it admits can stay suspended" in out
    assert "kubeflow/trainer#3888" in out
    assert "upgrade Kueue to 0.19.3 or newer" in out


def test_doctor_finds_nothing_in_versions_without_faults(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    install(server, Kueue="registry.k8s.io/kueue/kueue:v0.20.1")
    words = ["doctor", "--target", "k8s-trainjob", "--set", "kubernetes.queue=research"]
    code, _, err = jobctl_says(capfd, *words)
    assert (code, "Kueue v0.20.1:" in err) == (0, False)


def test_who_may_not_see_deployments_is_told_what_all_versions_have(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    install(server)
    server.cluster_rights = {right for right in server.cluster_rights if right[1] != "deployments"}
    code, _, err = jobctl_says(capfd, "doctor", "--target", "k8s")
    assert code == 0
    assert "the cluster runs" not in err
    assert "training operator: it checks a job's activeDeadlineSeconds" in err


def test_the_role_shows_these_deployments_and_no_others() -> None:
    roles = yaml.safe_load_all((MANIFESTS / "rbac.yaml").read_text())
    rules = [rule for role in roles for rule in role.get("rules", ()) if "deployments" in rule["resources"]]
    assert [(rule["verbs"], rule["resourceNames"]) for rule in rules] == [
        (["list"], sorted(OPERATORS.values()))
    ]

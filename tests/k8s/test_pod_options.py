"""``kubernetes.pod``: a user's words in the pods, merged as Kubernetes merges them, and checked by the server."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from jobctl.jobs.core.errors import UserError
from jobctl.k8s.target import PYTORCH, TRAIN
from tests.k8s.conftest import apply, made, spec_of
from tests.k8s.schemas import problems
from tests.k8s.server import ApiServer
from tests.k8s.test_manifest import TARGETS, denied, objects

ALL: dict[str, Any] = {
    "metadata": {"labels": {"cost-centre": "llm"}, "annotations": {"k8s.v1.cni.cncf.io/networks": "sriov"}},
    "spec": {
        "hostNetwork": True,
        "priorityClassName": "high",
        "schedulerName": "volcano",
        "serviceAccountName": "trainer",
        "runtimeClassName": "nvidia",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "tolerations": [{"key": "reserved", "operator": "Exists"}],
        "nodeSelector": {"pool": "a"},
        "volumes": [{"name": "scratch", "hostPath": {"path": "/nvme"}}],
        "containers": [
            {
                "name": "jobctl",
                "env": [{"name": "NCCL_IB_HCA", "value": "mlx5"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                "securityContext": {"capabilities": {"add": ["SYS_NICE"]}},
            }
        ],
    },
}
TRAINJOB_TOO = ("tolerations", "nodeSelector", "volumes", "serviceAccountName")


def with_pod(pod: dict[str, Any], target: str = "k8s", **more: Any) -> Any:
    return spec_of(target=target, nodes=2, named={"kubernetes.pod": pod, **more})


def template(pod: dict[str, Any]) -> dict[str, Any]:
    job = objects(PYTORCH, with_pod(pod))[1]
    replicas: dict[str, Any] = job["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"]["template"] == replicas["Worker"]["template"]
    merged: dict[str, Any] = replicas["Master"]["template"]
    return merged


def ours(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "jobctl", **fields}]}}


def test_all_that_other_tools_let_a_user_say_is_said() -> None:
    pod = template(ALL)
    spec = pod["spec"]
    assert pod["metadata"]["labels"]["cost-centre"] == "llm"
    assert pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "jobctl"
    for field in (
        "hostNetwork",
        "priorityClassName",
        "schedulerName",
        "serviceAccountName",
        "runtimeClassName",
    ):
        assert spec[field] == ALL["spec"][field]
    assert {t["key"] for t in spec["tolerations"]} >= {"reserved", "node.kubernetes.io/unreachable"}
    assert {v["name"] for v in spec["volumes"]} >= {"scratch", "workspace"}
    (container,) = spec["containers"]
    assert container["name"] == "pytorch"
    assert {e["name"] for e in container["env"]} >= {"NCCL_IB_HCA", "NODE_NAME"}
    assert {m["mountPath"] for m in container["volumeMounts"]} >= {"/scratch", "/workspace"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_NICE"]}
    assert container["command"] == ["bash", "/etc/jobctl/script"]


def test_the_merged_objects_are_valid() -> None:
    record, job = objects(PYTORCH, with_pod(ALL))
    assert problems(record) == []
    assert problems(job) == []
    assert denied(job) == []


def test_a_trainjob_says_what_it_can_and_the_rest_is_refused_by_name() -> None:
    some = {"spec": {key: ALL["spec"][key] for key in TRAINJOB_TOO}, "metadata": ALL["metadata"]}
    _, job = objects(TRAIN, with_pod(some, "k8s-trainjob"))
    assert problems(job) == []
    assert denied(job) == []
    assert '"reserved"' in str(job).replace("'", '"')
    with pytest.raises(UserError, match=r"a TrainJob cannot set spec\.hostNetwork"):
        TRAIN.render(with_pod({"spec": {"hostNetwork": True}}, "k8s-trainjob"))
    env = {"spec": {"containers": [{"name": "jobctl", "env": [{"name": "A", "value": "b"}]}]}}
    with pytest.raises(UserError, match="a TrainJob cannot set env of its container"):
        TRAIN.render(with_pod(env, "k8s-trainjob"))


def test_an_element_of_the_same_name_is_changed_and_null_takes_away() -> None:
    port = {"containerPort": 23456, "name": "rendezvous"}
    (container,) = template({"spec": {"containers": [{"name": "jobctl", "ports": [port]}]}})["spec"][
        "containers"
    ]
    assert container["ports"] == [{**port, "protocol": "TCP"}]
    assert "affinity" in template({"spec": {}})["spec"]
    assert "affinity" not in template({"spec": {"affinity": None}})["spec"]


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"labels": {}}, "labels cannot be set"),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy cannot be set"),
        ({"spec": {"activeDeadlineSeconds": 5}}, "spec.activeDeadlineSeconds cannot be set"),
        ({"metadata": {"name": "x"}}, "metadata.name cannot be set"),
        (
            {"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}},
            "app.kubernetes.io/instance cannot be set",
        ),
        (
            {"spec": {"volumes": [{"name": "workspace", "emptyDir": {}}]}},
            "spec.volumes workspace cannot be set",
        ),
        ({"spec": {"containers": [{"name": "jobctl", "command": ["sh"]}]}}, "command cannot be set"),
        ({"spec": {"containers": [{"image": "x"}]}}, "a list of mappings, each with a name"),
        ({"spec": []}, "spec must be a mapping"),
        ({"spec": None}, "spec must be a mapping"),
        ({"metadata": None}, "metadata must be a mapping"),
        ({"metadata": {"labels": None}}, "labels must be a mapping"),
        ({"spec": {"containers": None}}, "spec.containers must be a list"),
        ({"spec": {"containers": {}}}, "spec.containers must be a list"),
        ({"spec": {"volumes": None}}, "spec.volumes must be a list"),
        ({"spec": {"tolerations": 3}}, "spec.tolerations must be a list, not 3"),
        ({"spec": {"affinity": "a"}}, "spec.affinity must be a mapping, not 'a'"),
        (
            {"spec": {"containers": [{"name": "pytorch", "image": "x"}]}},
            "spec.containers pytorch cannot be set",
        ),
        (ours(env=3), "spec.containers pytorch.env must be a list, not 3"),
        (ours(volumeMounts=[3]), "volumeMounts must be a list of mappings; 3 is not a mapping"),
        (ours(volumeMounts=None), "jobctl: volumeMounts /workspace cannot be set"),
        (
            ours(volumeMounts=[{"name": "x", "mountPath": "/workspace"}]),
            "volumeMounts /workspace cannot be set",
        ),
        (
            ours(volumeMounts=[{"name": "x", "mountPath": "//workspace/./"}]),
            "volumeMounts /workspace cannot be set",
        ),
        (
            ours(volumeMounts=[{"name": "a", "mountPath": "/s"}, {"name": "b", "mountPath": "/s/"}]),
            "volumeMounts has '/s/' twice",
        ),
        (ours(env=[{"name": "JOBCTL_ROOT", "value": "/x"}]), "env JOBCTL_ROOT cannot be set"),
    ],
)
def test_what_is_not_the_users_to_say_is_refused_with_its_place(pod: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        PYTORCH.render(with_pod(pod))


def test_a_field_that_no_pod_has_is_the_servers_to_refuse(server: ApiServer) -> None:
    with pytest.raises(UserError, match=r"does not know the field .*hostNetwrk"):
        apply(PYTORCH, with_pod({"spec": {"hostNetwrk": True}}))
    assert made(server) == []


def test_without_options_the_manifest_keeps_its_comments() -> None:
    assert "# The pods of a dead node are deleted after one minute." in PYTORCH.render(spec_of())


@pytest.mark.parametrize("target", TARGETS)
def test_texts_of_a_user_stay_data(target: str) -> None:
    nasty = 'a: "b"\n{{ x }} # \u2028'
    text = TARGETS[target].render(with_pod({"metadata": {"annotations": {"note": nasty}}}, target))
    _, job = yaml.safe_load_all(text)
    assert nasty in str(list(yaml.safe_load_all(text))) or repr(nasty)[1:-1] in str(job)

"""Which nodes the pods go to, what they take of them, and which folders and claims they see."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from jobctl.jobs.core.errors import UserError
from jobctl.k8s import placement
from tests.k8s.conftest import spec_of
from tests.k8s.schemas import problems
from tests.k8s.test_manifest import TARGETS, objects


def gpu_spec(target: str = "k8s", **named: Any) -> Any:
    base = {"gpus_per_node": 8, "processes_per_node": 0}
    return spec_of(target=target, hardware="h100", nodes=2, named={**base, **named})


@pytest.mark.parametrize(("devices", "count"), [(0, 8), (4, 4), (32, 32)])
def test_rdma_devices_are_counted_by_themselves(devices: int, count: int) -> None:
    named = {"kubernetes.rdma_resource": "vpc.amazonaws.com/efa", "kubernetes.rdma_devices": devices}
    assert placement.devices(gpu_spec(**named)) == {"nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": count}


def test_slices_of_gpus_are_named_by_the_nodes_own_label() -> None:
    mig = {
        "kubernetes.gpu_resource": "nvidia.com/mig-3g.40gb",
        "kubernetes.gpu_product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
    }
    assert placement.node_rules(gpu_spec(**mig)) == [
        ("nvidia.com/gpu.product", "In", ["NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"])
    ]
    assert placement.devices(gpu_spec(**mig)) == {"nvidia.com/mig-3g.40gb": 8}
    other = {"kubernetes.gpu_product_label": "cloud.example/gpu"}
    assert placement.node_rules(gpu_spec(**other))[0][0] == "cloud.example/gpu"
    assert placement.node_rules(gpu_spec(**{"kubernetes.gpu_product_label": ""})) == []


def test_limits_are_the_nodes_unless_the_site_says_others() -> None:
    spec = gpu_spec()
    assert placement.limits(spec)["memory"] == f"{spec.facts.node_memory_gib * 9 // 10}Gi"
    assert placement.limits(spec)["cpu"] == spec.facts.cpus
    said = {
        "kubernetes.memory": "64Gi",
        "kubernetes.memory_limit": "128Gi",
        "kubernetes.cpu_limit": 48,
        "cpus_per_task": 16,
    }
    assert placement.requests(gpu_spec(**said))["memory"] == "64Gi"
    limits = placement.limits(gpu_spec(**said))
    assert (limits["cpu"], limits["memory"]) == (48, "128Gi")


@pytest.mark.parametrize(
    "named",
    [
        {"kubernetes.memory": "64Gi", "kubernetes.memory_limit": "60000Mi"},
        {"cpus_per_task": 16, "kubernetes.cpu_limit": 8},
    ],
)
def test_a_limit_below_what_is_promised_is_refused(named: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="but each pod requests"):
        placement.limits(gpu_spec(**named))


@pytest.mark.parametrize(
    ("quantity", "gib"), [("64Gi", 64.0), ("1Ti", 1024.0), ("512Mi", 0.5), ("1073741824", 1.0)]
)
def test_quantities_of_memory(quantity: str, gib: float) -> None:
    assert placement.gib(quantity) == pytest.approx(gib)


@pytest.mark.parametrize("target", TARGETS)
def test_mounts_are_folders_of_the_node_or_claims(target: str) -> None:
    spec = gpu_spec(target, **{"container.mounts": ("/nvme:/scratch", "corpus:/data:ro")})
    record, job = objects(TARGETS[target], spec)
    assert problems(record) == []
    assert problems(job) == []
    volumes, mounts = placement.mounts_of(spec)
    assert volumes == [
        {"name": "mount-0", "hostPath": {"path": "/nvme"}},
        {"name": "mount-1", "persistentVolumeClaim": {"claimName": "corpus"}},
    ]
    assert [(m["mountPath"], m["readOnly"]) for m in mounts] == [("/scratch", False), ("/data", True)]
    assert "mount-1" in str(job)


def test_a_mount_of_another_form_is_refused() -> None:
    with pytest.raises(UserError, match="not of the form SOURCE:TARGET"):
        placement.mounts_of(gpu_spec(**{"container.mounts": ("/nvme",)}))


@pytest.mark.parametrize(
    ("mounts", "words"),
    [
        (("claim:/workspace",), "jobctl mounts a volume at /workspace"),
        (("claim:/data/../tmp/",), "jobctl mounts a volume at /tmp"),
        (("claim:/etc/jobctl:ro",), "jobctl mounts a volume at /etc/jobctl"),
        (("claim:/data", "other:/data/"), "another one is at /data"),
    ],
)
def test_two_mounts_at_one_place_are_refused(mounts: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        placement.mounts_of(gpu_spec(**{"container.mounts": mounts}))


def test_no_place_of_the_template_is_forgotten() -> None:
    spec = gpu_spec(**{"kubernetes.secret": "tokens"})
    master = objects(TARGETS["k8s"], spec)[1]["spec"]["pytorchReplicaSpecs"]["Master"]
    for mount in master["template"]["spec"]["containers"][0]["volumeMounts"]:
        with pytest.raises(UserError, match=f"at {mount['mountPath']}"):
            placement.mounts_of(gpu_spec(**{"container.mounts": (f"claim:{mount['mountPath']}",)}))


def pod_templates(text: str) -> list[dict[str, Any]]:
    """The pod templates of a job of either operator."""
    _, job = yaml.safe_load_all(text)
    if job["kind"] == "PyTorchJob":
        return [replicas["template"] for replicas in job["spec"]["pytorchReplicaSpecs"].values()]

    (patch,) = job["spec"]["runtimePatches"]
    jobs = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    return [each["template"]["spec"]["template"] for each in jobs]


@pytest.mark.parametrize("how", ["required", "preferred"])
@pytest.mark.parametrize("target", TARGETS)
def test_kueue_is_told_how_near_the_pods_must_be(target: str, how: str) -> None:
    named = {f"kubernetes.topology_{how}": "rack", "kubernetes.queue": "research"}
    for template in pod_templates(TARGETS[target].render(gpu_spec(target, **named))):
        assert template["metadata"]["annotations"][f"kueue.x-k8s.io/podset-{how}-topology"] == "rack"
    assert "podset-" not in TARGETS[target].render(gpu_spec(target))


@pytest.mark.parametrize(
    ("target", "nodes", "group"), [("k8s", 2, "jobctl"), ("k8s", 1, None), ("k8s-trainjob", 2, None)]
)
def test_master_and_workers_are_near_each_other_too(target: str, nodes: int, group: str | None) -> None:
    """For Kueue they are two sets of pods; a group is of two, so a job with one set has none."""
    named = {"kubernetes.topology_required": "rack", "kubernetes.queue": "research", "nodes": nodes}
    templates = pod_templates(TARGETS[target].render(gpu_spec(target, **named)))
    assert len(templates) == (2 if group else 1)
    for template in templates:
        assert template["metadata"]["annotations"].get("kueue.x-k8s.io/podset-group-name") == group

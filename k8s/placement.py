"""The nodes that the pods of a job may use, the resources they take, and the folders they see."""

from __future__ import annotations

import re
from typing import Any

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.mounts import place_of
from jobctl.jobs.targets import registry
from jobctl.k8s.quantities import UNITS, amount

CPUS_PER_PROCESS = 4
GIB_PER_PROCESS = 16
"""The CPUs that a pod is promised: a trainer process and its DataLoader workers, at most 3/4 of a node."""

JOB_FILES = "/etc/jobctl"
SECRETS = "/run/secrets/jobctl"
_OUR_MOUNTS = (registry.VOLUME, JOB_FILES, SECRETS, "/dev/shm", "/tmp")
"""Where the template ``container_mounts`` mounts volumes of the job itself."""

_MOUNT = re.compile(r"(?P<source>[^:]+):(?P<target>/[^:]+)(?P<read_only>:ro)?")


def placement(spec: JobSpec) -> dict[str, Any]:
    """Return the values for the template ``pod_placement``.

    Raises UserError for nodes and mounts that Kubernetes has no counterpart of.
    """
    volumes, mounts = mounts_of(spec)
    return {
        # A pod without GPUs must stay away from the nodes that only GPU jobs may use.
        "tolerations": spec.site.kubernetes.tolerations if spec.resources.gpus_per_node else (),
        "node_rules": node_rules(spec),
        "requests": requests(spec),
        "limits": limits(spec),
        "rdma": needs_rdma(spec),
        "extra_volumes": volumes,
        "extra_mounts": mounts,
    }


def distributed(spec: JobSpec) -> bool:
    """Return whether the pods are ranks of one program. Otherwise each works alone."""
    return spec.job_kind.distributed


def needs_rdma(spec: JobSpec) -> bool:
    """Return whether the pods communicate over RDMA."""
    return bool(spec.site.kubernetes.rdma_resource) and distributed(spec) and spec.resources.nodes > 1


def devices(spec: JobSpec) -> dict[str, str | int]:
    """GPUs and RDMA devices, which are limited and requested alike."""
    site = spec.site.kubernetes
    counts: dict[str, str | int] = {}
    if spec.resources.gpus_per_node:
        counts[site.gpu_resource] = spec.resources.gpus_per_node

    if needs_rdma(spec):
        # By default each GPU gets an RDMA device of its own.
        counts[site.rdma_resource] = site.rdma_devices or max(1, spec.resources.gpus_per_node)

    return counts


def requests(spec: JobSpec) -> dict[str, str | int]:
    """Return the resources that a pod is promised."""
    processes = spec.processes_per_node if distributed(spec) else 1
    facts = spec.facts
    # A promise of a whole node could never be kept, because the kubelet takes a part of it.
    cpus = spec.site.cpus_per_task or min(processes * CPUS_PER_PROCESS, max(1, facts.cpus * 3 // 4))
    memory = min(processes * GIB_PER_PROCESS, facts.node_memory_gib * 3 // 4)

    return {"cpu": cpus, "memory": spec.site.kubernetes.memory or f"{memory}Gi", **devices(spec)}


def limits(spec: JobSpec) -> dict[str, str | int]:
    """Return the limits of a pod. A namespace with a quota on limits admits no pod without them.

    By default that is a node's CPUs and most of its memory: the rest is the kubelet's and the system's.
    """
    site = spec.site.kubernetes
    promised = requests(spec)
    # A user may request more than the catalogue says that a node has.
    cpus = site.cpu_limit or max(spec.facts.cpus, int(promised["cpu"]))
    memory = site.memory_limit or _larger(
        f"{spec.facts.node_memory_gib * 9 // 10}Gi", str(promised["memory"])
    )
    _check_at_least(cpus, int(promised["cpu"]), "kubernetes.cpu_limit", "cpus_per_task")
    _check_at_least(gib(memory), gib(str(promised["memory"])), "kubernetes.memory_limit", "kubernetes.memory")

    return {"cpu": cpus, "memory": memory, **devices(spec)}


def gib(quantity: str) -> float:
    """Return a quantity of memory, such as ``64Gi``, in GiB. The schema has checked its form."""
    number = amount(quantity)
    assert number is not None
    return number / UNITS["Gi"]


def _larger(one: str, other: str) -> str:
    return max(one, other, key=gib)


def _check_at_least(limit: float, promised: float, key: str, promise: str) -> None:
    if limit < promised:
        raise UserError(
            f"{key} is {limit:g}, but each pod requests {promised:g}",
            hint=f"raise {key}, or lower {promise}",
        )


def node_rules(spec: JobSpec) -> list[tuple[str, str, list[str]]]:
    """Return key, operator and values of each label of a node: the right GPU, wanted, and not avoided."""
    site = spec.site.kubernetes
    rules = []
    product = site.gpu_product or spec.facts.gpu_product
    if spec.resources.gpus_per_node and product and site.gpu_product_label:
        rules.append((site.gpu_product_label, "In", [product]))

    for key, operator in (("nodelist", "In"), ("exclude", "NotIn")):
        value = getattr(spec.site, key)
        if "[" in value:
            raise UserError(
                f"{key} {value}: Kubernetes has no ranges of nodes", hint="write each name, with commas"
            )

        if value:
            rules.append(("kubernetes.io/hostname", operator, [name.strip() for name in value.split(",")]))

    return rules


def topology(spec: JobSpec, has_master: bool) -> dict[str, str]:
    """Return the annotations that make Kueue put the pods near each other.

    ``has_master`` says that an operator makes the first pod apart from the others. Kueue puts each sort of
    pods where it likes, unless both are of one group.
    """
    site = spec.site.kubernetes
    wanted = {"required": site.topology_required, "preferred": site.topology_preferred}
    levels = {f"kueue.x-k8s.io/podset-{how}-topology": level for how, level in wanted.items() if level}
    if levels and has_master and spec.resources.nodes > 1:
        levels["kueue.x-k8s.io/podset-group-name"] = "jobctl"

    return levels


def mounts_of(spec: JobSpec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes and the volume mounts of ``container.mounts``.

    A source that begins with a slash is a folder of the node; any other is the name of a claim. Raises
    UserError for a mount of another form, and for a target that has a mount already.
    """
    taken = dict.fromkeys(_OUR_MOUNTS, "jobctl mounts a volume")
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []

    for number, text in enumerate(spec.site.container.mounts):
        mount = _MOUNT.fullmatch(text)
        if mount is None:
            raise UserError(
                f"container.mounts {text!r}: not of the form SOURCE:TARGET[:ro]",
                hint="SOURCE is a folder of the nodes, or the name of a PersistentVolumeClaim",
            )

        target = place_of(mount["target"])
        if target in taken:
            raise UserError(
                f"container.mounts {text!r}: {taken[target]} at {target}", hint="name another target"
            )

        taken[target] = "another one is"
        name = f"mount-{number}"
        source = mount["source"]
        is_folder = source.startswith("/")
        claim = {"persistentVolumeClaim": {"claimName": source}}
        volumes.append({"name": name, **({"hostPath": {"path": source}} if is_folder else claim)})
        mounts.append({"name": name, "mountPath": target, "readOnly": bool(mount["read_only"])})

    return volumes, mounts

"""The GPUs of a cluster: the number on each node, and the number that no pod has requested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.protocol import Capacity, NodeCapacity
from jobctl.k8s.nodes import is_ready
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import ALL_PODS, NODE, POD, Object

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

ENDED = ("Succeeded", "Failed")
"""Phases of a pod that no longer holds any resources."""


def read_capacity(api: Api, site: Site) -> Capacity:
    """Ask a cluster for its nodes and pods. Raises UserError if the user may not see the nodes."""
    section = site.kubernetes
    try:
        nodes = api.list_all(NODE, "")
    except Refused as refusal:
        if refusal.status != 403:
            raise

        raise UserError(
            refusal.message,
            hint="nodes belong to no namespace: an administrator binds ClusterRole jobctl-nodes of k8s/manifests",
            code=1,
        ) from None

    try:
        pods = api.list_all(ALL_PODS, "")
        sees_all = True
    except Refused as refusal:
        if refusal.status != 403:
            raise

        # Without the pods of all namespaces, the free GPUs are only an upper bound.
        pods = api.list_all(POD, section.namespace)
        sees_all = False

    held = held_gpus(pods, section.gpu_resource)
    known = [
        capacity_of(node, held, section.gpu_resource, section.gpu_product_label)
        for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
    ]

    return Capacity(nodes=tuple(node for node in known if node.gpus), sees_all=sees_all)


def capacity_of(node: Object, held: Mapping[str, int], resource: str, label: str) -> NodeCapacity:
    """Return the GPUs of a node, and the free ones. ``held`` are the GPUs that pods hold, by node."""
    metadata = node["metadata"]
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    gpus = int(allocatable.get(resource, 0))
    state = "silent"
    if is_ready(node):
        state = "drained" if (node.get("spec") or {}).get("unschedulable") else "ready"

    return NodeCapacity(
        name=metadata["name"],
        product=(metadata.get("labels") or {}).get(label, ""),
        gpus=gpus,
        # A device that became unhealthy no longer counts, but a pod still holds it.
        free=max(0, gpus - held.get(metadata["name"], 0)),
        state=state,
    )


def held_gpus(pods: Sequence[Object], resource: str) -> dict[str, int]:
    """Return the GPUs that pods hold on each node. A pod holds what its containers ask for until it ends."""
    held: Counter[str] = Counter()
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and (pod.get("status") or {}).get("phase") not in ENDED:
            held[node] += _gpus_of(pod, resource)

    return dict(held)


def _gpus_of(pod: Object, resource: str) -> int:
    """Containers run side by side, and init containers before them one by one."""

    def asked(container: Object) -> int:
        resources = container.get("resources") or {}
        # A GPU may be asked for by a limit alone.
        limits = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        return int(limits.get(resource, 0))

    side_by_side = sum(asked(container) for container in pod["spec"].get("containers") or [])
    before = [asked(container) for container in pod["spec"].get("initContainers") or []]

    return max([side_by_side, *before])

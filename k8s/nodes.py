"""The nodes of a cluster that a user may see: the dead ones, and the pods that cannot end because of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.stamps import seconds_of
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.pods import Pod
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import NODE, POD, Object

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

AVOID_MARK = "jobctl/avoid"
"""Annotation of a run's record: nodes that its next attempts avoid, with commas between them."""
LATE_SECONDS = 30.0
"""Seconds that a deleted pod may stay too long before its node is checked. Clocks differ a little."""


class DeadPod(msgspec.Struct, frozen=True):
    """A deleted pod that stays, because its node does not answer."""

    pod: Pod
    node_is_gone: bool
    """Whether the cluster no longer has this node. Then nothing of the pod can run."""


def is_late(pod: Pod) -> bool:
    """Return whether a deleted pod still exists although its grace period is over."""
    due = seconds_of(pod.deleted)
    return due is not None and time.time() > due + LATE_SECONDS


def is_ready(node: Object) -> bool:
    """Return whether the kubelet of a node reports that the node is ready."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def dead_pods(api: Api, pods: Sequence[Pod]) -> list[DeadPod]:
    """Return those of ``pods`` that cannot end. A node that the user may not see counts as dead."""
    late = [pod for pod in pods if pod.node and is_late(pod)]
    dead: list[DeadPod] = []

    for pod in late:
        try:
            node = api.get(NODE, "", pod.node)
        except Refused as refusal:
            if refusal.status != 403:
                raise

            dead.append(DeadPod(pod, node_is_gone=False))
        else:
            if node is None or not is_ready(node):
                dead.append(DeadPod(pod, node_is_gone=node is None))

    return dead


def check_none_is_due(api: Api, run: str, pods: Sequence[Pod]) -> None:
    """Raise UserError if a pod of a silent node still has time to end by itself."""
    for pod in pods:
        if not pod.deleted or not pod.node or is_late(pod):
            continue

        try:
            node = api.get(NODE, "", pod.node)
        except Refused:  # no right to see nodes: they may be well
            return

        if node is None or not is_ready(node):
            raise UserError(
                f"{pod.name} may still end by itself until {pod.deleted}, although {pod.node} does not answer",
                hint=f"wait until half a minute after that time, then: jobctl cancel {run} --force",
                code=1,
            )


def remove_dead(api: Api, namespace: str, pods: Sequence[Pod], *, force: bool) -> list[DeadPod]:
    """Remove pods of nodes that are gone, and with ``force`` of silent nodes. Return what was removed.

    Kubernetes waits for the kubelet before it gives a pod's name away, and a dead node's kubelet never
    answers.
    """
    # A node that does not answer may still run its pod. Only the user can know that it is off.
    removed = [dead for dead in dead_pods(api, pods) if force or dead.node_is_gone]
    for dead in removed:
        # 0 seconds: the object goes without an answer of its kubelet.
        api.delete(POD, namespace, dead.pod.name, grace_seconds=0)

    return removed


def cannot_go(job: str, run: str, dead: Sequence[DeadPod]) -> UserError:
    """Return the error for a job of ``run`` that was deleted but still exists."""
    if not dead:
        return UserError(f"the ended job {job} cannot be deleted: a finalizer holds it", code=1)

    names = ", ".join(f"{each.pod.name} on {each.pod.node}" for each in dead)
    return UserError(
        f"job {job} cannot be deleted: its pods cannot end, because their nodes do not answer: {names}",
        hint=f"if you know that the nodes are off: jobctl cancel {run} --force, then jobctl resume {run}",
        code=1,
    )


def avoided_nodes(marks: Mapping[str, str], pods: Sequence[Pod], removed: Sequence[DeadPod]) -> list[str]:
    """Return the nodes that the next attempt avoids: noted before, dead now, or unfit in the last attempt."""
    noted = marks.get(AVOID_MARK, "").split(",")
    dead = [each.pod.node for each in removed]
    unfit = [node for pod in pods if pod.ending for node in pod.ending.bad_nodes.split(",")]

    return sorted({*noted, *dead, *unfit} - {""})


def avoiding(spec: JobSpec, nodes: Sequence[str]) -> JobSpec:
    """Return ``spec`` for pods that avoid ``nodes``."""
    if not nodes:
        return spec

    excluded = [name for name in spec.site.exclude.split(",") if name]
    exclude = ",".join(dict.fromkeys([*excluded, *nodes]))

    return msgspec.structs.replace(spec, site=msgspec.structs.replace(spec.site, exclude=exclude))

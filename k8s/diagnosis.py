"""Find faults of a cluster that concern our jobs. Each check looks at one thing.

What a user may not see is not judged: a check then says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from jobctl.jobs.catalog.schema.job import Resources
from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.core.exit_codes import STARTED_AGAIN, STARTED_IN_PLACE
from jobctl.jobs.targets.protocol import Trouble
from jobctl.k8s.admission import ONE_NODE_ONLY
from jobctl.k8s.connection import Request
from jobctl.k8s.nodes import is_ready
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import (
    CLAIM,
    LOCAL_QUEUE,
    NAMESPACE,
    NODE,
    PYTORCHJOB,
    RUNTIME,
    TRAINJOB,
    Kind,
    Object,
)

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

PAGE = "docs/kubernetes.md"
ENFORCE = "pod-security.kubernetes.io/enforce"
RUNTIME_NAME = "jobctl"


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts for the checks. A fact is None if the user may not see it."""

    site: Site
    kind: Kind = PYTORCHJOB
    """The kind of the jobs."""
    nodes_of_a_job: int = 1
    gpus_of_a_node: int = 8
    kinds: frozenset[Kind] = frozenset()
    """Kinds of distributed jobs that the cluster serves."""
    operator_schema: str = ""
    """The OpenAPI document of the training operator, as text; empty if there is none."""
    trainer_schema: str = ""
    """The OpenAPI document of Trainer v2."""
    runtime: Object | None = None
    runtime_is_missing: bool = False
    namespace: Object | None = None
    claim: Object | None = None
    claim_is_missing: bool = False
    queue: Object | None = None
    queue_is_missing: bool = False
    cluster_nodes: tuple[Object, ...] | None = None


def read_facts(api: Api, site: Site, kind: Kind, resources: Resources) -> ClusterFacts:
    """Ask the cluster of ``site`` for the facts of all checks. Raises UserError if it does not answer."""
    section = site.kubernetes
    kinds = frozenset(kind for kind in (PYTORCHJOB, TRAINJOB) if api.serves(kind))
    runtime, no_runtime = _look(api, RUNTIME, "", RUNTIME_NAME)
    claim, no_claim = _look(api, CLAIM, section.namespace, section.pvc)
    namespace, _ = _look(api, NAMESPACE, "", section.namespace)
    queue, no_queue = (
        _look(api, LOCAL_QUEUE, section.namespace, section.queue) if section.queue else (None, False)
    )

    return ClusterFacts(
        site=site,
        kind=kind,
        nodes_of_a_job=resources.nodes,
        gpus_of_a_node=resources.gpus_per_node,
        kinds=kinds,
        operator_schema=_schema(api, PYTORCHJOB) if PYTORCHJOB in kinds else "",
        trainer_schema=_schema(api, TRAINJOB) if TRAINJOB in kinds else "",
        runtime=runtime,
        # Without Trainer v2 no runtime can exist, and no job needs one.
        runtime_is_missing=no_runtime and TRAINJOB in kinds,
        namespace=namespace,
        claim=claim,
        claim_is_missing=no_claim,
        queue=queue,
        queue_is_missing=no_queue,
        cluster_nodes=_nodes(api),
    )


def _look(api: Api, kind: Kind, namespace: str, name: str) -> tuple[Object | None, bool]:
    """Return an object, and whether it is surely missing."""
    try:
        thing = api.get(kind, namespace, name)
    except Refused:  # no right to see it, or its kind is not served
        return None, False

    return thing, thing is None


def _schema(api: Api, kind: Kind) -> str:
    request = Request(
        path=f"/openapi/v3/apis/{kind.api_version}", subject=f"reading the schema of {kind.name}"
    )
    try:
        document: Any = api.call(request)
    except Refused:
        return ""

    # The checks search the text for names of fields, so its structure does not matter.
    return msgspec.json.encode(document).decode()


def _nodes(api: Api) -> tuple[Object, ...] | None:
    try:
        return tuple(api.list_all(NODE, ""))
    except Refused:
        return None


# ---- checks


def no_operator(facts: ClusterFacts) -> Trouble | None:
    """Check that the operator of the job's kind is installed. Training and preflight need it."""
    if facts.kind in facts.kinds:
        return None

    if facts.kinds:
        return Trouble(
            check="operator",
            cause=f"the cluster has no operator for a {facts.kind.name}",
            evidence=f"it serves only {', '.join(kind.name for kind in sorted(facts.kinds))}",
            remedy="--target k8s" if facts.kind == TRAINJOB else "--target k8s-trainjob",
            page=PAGE,
        )

    return Trouble(
        check="operator",
        cause="the cluster has no operator for distributed jobs",
        evidence="it serves neither PyTorchJob nor TrainJob",
        remedy="install Kubeflow's training operator 1.9 or Trainer v2",
        page=PAGE,
    )


def old_operator(facts: ClusterFacts) -> Trouble | None:
    """PyTorchJobs are written for training operator 1.9, whose field ``managedBy`` older ones do not have."""
    if facts.kind != PYTORCHJOB or not facts.operator_schema or "managedBy" in facts.operator_schema:
        return None

    return Trouble(
        check="operator-version",
        cause="the training operator is older than 1.9, and may refuse or ignore fields of our PyTorchJobs",
        evidence="its PyTorchJob has no field runPolicy.managedBy",
        remedy="upgrade the training operator to 1.9, or use --target k8s-trainjob",
        page=PAGE,
    )


def old_trainer(facts: ClusterFacts) -> Trouble | None:
    """TrainJobs say what their pods are by ``runtimePatches``, which Trainer has from 2.2 on."""
    if facts.kind != TRAINJOB or not facts.trainer_schema or "runtimePatches" in facts.trainer_schema:
        return None

    return Trouble(
        check="trainer-version",
        cause="Trainer v2 is older than 2.2, and refuses our TrainJobs",
        evidence="its TrainJob has no field runtimePatches",
        remedy="upgrade Kubeflow Trainer, or use --target k8s",
        page=PAGE,
    )


def wrong_runtime(facts: ClusterFacts) -> Trouble | None:
    """Our runtime says which exit codes are started again."""
    if facts.kind != TRAINJOB:
        return None

    applies = "kubectl apply --server-side -k k8s/manifests/trainer-v2"
    if facts.runtime_is_missing:
        return Trouble(
            check="runtime",
            cause="the cluster has no ClusterTrainingRuntime for our TrainJobs",
            evidence=f"ClusterTrainingRuntime {RUNTIME_NAME} does not exist",
            remedy=applies,
            page=PAGE,
        )

    if not facts.runtime:
        return None

    # A code too many is as wrong as a missing one.
    again = _retried_codes(facts.runtime)
    in_place = _codes_in_place(facts.runtime)
    if again == set(STARTED_AGAIN) and in_place == set(STARTED_IN_PLACE):
        return None

    return Trouble(
        check="runtime",
        cause="the ClusterTrainingRuntime belongs to another version of jobctl",
        evidence=f"it restarts pods for {len(again)} exit codes and containers for {len(in_place)}; "
        f"this version restarts them for {len(STARTED_AGAIN)} and {len(STARTED_IN_PLACE)}",
        remedy=applies,
        page=PAGE,
    )


def _retried_codes(runtime: Object) -> set[int]:
    codes: set[int] = set()
    # In Kubernetes a null means the same as a missing key.
    jobs = runtime["spec"]["template"]["spec"].get("replicatedJobs") or []
    for job in jobs:
        policy = job["template"]["spec"].get("podFailurePolicy") or {}
        for rule in policy.get("rules") or []:
            codes |= set((rule.get("onExitCodes") or {}).get("values") or [])

    return codes


def _codes_in_place(runtime: Object) -> set[int]:
    codes: set[int] = set()
    for job in runtime["spec"]["template"]["spec"].get("replicatedJobs") or []:
        for container in job["template"]["spec"]["template"]["spec"].get("containers") or []:
            for rule in container.get("restartPolicyRules") or []:
                codes |= set((rule.get("exitCodes") or {}).get("values") or [])

    return codes


def pod_security(facts: ClusterFacts) -> Trouble | None:
    """RDMA needs a right that only level privileged allows; the operator's init container needs baseline."""
    if facts.namespace is None:
        return None

    section = facts.site.kubernetes
    # A namespace without the label allows everything.
    level = (facts.namespace["metadata"].get("labels") or {}).get(ENFORCE, "privileged")
    name = section.namespace
    evidence = f"namespace {name} has {ENFORCE}={level}"
    if section.rdma_resource and level != "privileged":
        return Trouble(
            check="pod-security",
            cause=f"jobs on several nodes use {section.rdma_resource} and pin memory; level {level} forbids that",
            evidence=evidence,
            remedy=f"kubectl label namespace {name} {ENFORCE}=privileged --overwrite",
            page=PAGE,
        )

    if level == "restricted" and facts.nodes_of_a_job > 1 and facts.kind == PYTORCHJOB:
        return Trouble(
            check="pod-security",
            cause=f"level {level} refuses the init container that the training operator adds to workers",
            evidence=evidence,
            remedy=f"kubectl label namespace {name} {ENFORCE}=baseline --overwrite, or --target k8s-trainjob",
            page=PAGE,
        )

    return None


def volume(facts: ClusterFacts) -> Trouble | None:
    """All pods of a run write the same volume."""
    name = facts.site.kubernetes.pvc
    if facts.claim_is_missing:
        return Trouble(
            check="volume",
            cause="the volume of runs and data sets is missing",
            evidence=f"namespace {facts.site.kubernetes.namespace} has no PersistentVolumeClaim {name}",
            remedy="kubectl apply --server-side -k k8s/manifests, or kubernetes.pvc=NAME",
            page=PAGE,
        )

    if facts.claim is None:
        return None

    # A claim may list several modes, and one mode that nodes can share is enough.
    modes = set(facts.claim.get("spec", {}).get("accessModes") or [])
    if facts.nodes_of_a_job > 1 and modes and modes <= ONE_NODE_ONLY:
        return Trouble(
            check="volume",
            cause=f"only one node can mount the volume, and a job has {facts.nodes_of_a_job} nodes",
            evidence=f"claim {name} has {', '.join(sorted(modes))}",
            remedy="use a storage class that supports ReadWriteMany",
            page=PAGE,
        )

    # A pending claim is no fault, because some storage classes bind it only for a pod.
    phase = (facts.claim.get("status") or {}).get("phase", "")
    if phase == "Lost":
        return Trouble(
            check="volume",
            cause="the volume of the claim is lost",
            evidence=f"claim {name} is {phase}",
            remedy="ask an administrator to restore it, or to create another claim",
            page=PAGE,
        )

    return None


def queue(facts: ClusterFacts) -> Trouble | None:
    """A job in a queue is made suspended, and only an active queue admits it."""
    name = facts.site.kubernetes.queue
    if facts.queue_is_missing:
        return Trouble(
            check="queue",
            cause="jobs wait for ever in a queue that does not exist",
            evidence=f"namespace {facts.site.kubernetes.namespace} has no LocalQueue {name}",
            remedy="kubectl apply --server-side -k k8s/manifests/kueue, or remove kubernetes.queue",
            page=PAGE,
        )

    conditions = ((facts.queue or {}).get("status") or {}).get("conditions") or []
    # A queue without this condition was not looked at yet, and is not judged.
    for condition in conditions:
        if condition.get("type") == "Active" and condition.get("status") == "False":
            return Trouble(
                check="queue",
                cause=f"queue {name} admits nothing",
                evidence=str(condition.get("message") or condition.get("reason") or "it is not active"),
                remedy="create its ClusterQueue, and the flavors that the ClusterQueue names",
                page=PAGE,
            )

    return None


def gpus(facts: ClusterFacts) -> Trouble | None:
    """Check the GPUs. A device plugin offers them under a name, and a label finds their nodes."""
    if facts.cluster_nodes is None or not facts.gpus_of_a_node:
        return None

    section = facts.site.kubernetes
    offered = [
        node
        for node in facts.cluster_nodes
        # Allocatable and not capacity: devices that the plugin calls unhealthy do not count.
        if int(((node.get("status") or {}).get("allocatable") or {}).get(section.gpu_resource, 0))
    ]
    if not offered:
        return Trouble(
            check="gpus",
            cause=f"no node offers {section.gpu_resource}",
            evidence=f"none of {len(facts.cluster_nodes)} nodes has it among its allocatable resources",
            remedy="install the device plugin, or name the resource: kubernetes.gpu_resource",
            page=PAGE,
        )

    label = section.gpu_product_label
    if label and not any(label in (node["metadata"].get("labels") or {}) for node in offered):
        return Trouble(
            check="gpus",
            cause=f"no node with GPUs has the label {label}, which jobs use to choose a GPU",
            evidence=f"{len(offered)} nodes offer {section.gpu_resource}",
            remedy="install GPU feature discovery, or --set kubernetes.gpu_product_label=''",
            page=PAGE,
        )

    silent = [str(node["metadata"]["name"]) for node in offered if not is_ready(node)]
    if len(silent) == len(offered):
        return Trouble(
            check="gpus",
            cause="no node with GPUs answers",
            evidence=", ".join(silent[:8]),
            remedy="jobctl nodes shows these nodes; ask the administrator",
            page=PAGE,
        )

    return None


CHECKS: tuple[Callable[[ClusterFacts], Trouble | None], ...] = (
    no_operator,
    old_operator,
    old_trainer,
    wrong_runtime,
    pod_security,
    volume,
    queue,
    gpus,
)


def examine(facts: ClusterFacts) -> list[Trouble]:
    """Return all faults, in the order of the checks."""
    troubles = (check(facts) for check in CHECKS)
    return [trouble for trouble in troubles if trouble is not None]

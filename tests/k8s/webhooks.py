"""What operators refuse beyond the shape of their kinds: the rules of their webhooks, and those that a CRD has besides.

They are told from the operators' sources and from recorded answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_RULE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_MANAGER = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?/\S+")
_MAX_NAME = 63
_RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}


def pytorchjob(job: Object) -> Iterator[str]:
    """The training operator's: the names of job and containers, and how many masters and workers there may be."""
    if not _DNS_1035.fullmatch(job["metadata"]["name"]):
        yield f'metadata.name: Invalid value: "{job["metadata"]["name"]}": must be a DNS-1035 label'
    for replica, spec in job["spec"]["pytorchReplicaSpecs"].items():
        path = f"spec.pytorchReplicaSpecs[{replica}]"
        if not any(c["name"] == "pytorch" for c in spec["template"]["spec"]["containers"]):
            yield (
                f"{path}.template.spec.containers: "
                "Required value: must have at least one container with name pytorch"
            )
        if replica not in ("Master", "Worker"):
            yield f'{path}: Unsupported value: "{replica}"'
        if replica == "Master" and spec["replicas"] != 1:
            yield f"{path}.replicas: Forbidden: must be 1"


def trainjob(job: Object, runtimes: dict[str, Object]) -> Iterator[str]:
    """Trainer v2's: that the runtime is there and the patches fit it; and what JobSet says of what comes of both."""
    if not _DNS_1035.fullmatch(job["metadata"]["name"]):
        yield "metadata.name must match RFC 1035 DNS label format"
    if len(job["metadata"]["name"]) > _MAX_NAME:
        yield "metadata.name must be no more than 63 characters"
    name = job["spec"]["runtimeRef"]["name"]
    if name not in runtimes:
        yield (
            f'spec.RuntimeRef: Invalid value: {{"name":"{name}"}}: ClusterTrainingRuntime.trainer.kubeflow.org '
            f'"{name}" not found: specified clusterTrainingRuntime must be created before the TrainJob is created'
        )
        return
    jobset = runtimes[name]["spec"]["template"]["spec"]
    containers = {
        rjob["name"]: {c["name"] for c in rjob["template"]["spec"]["template"]["spec"]["containers"]}
        for rjob in jobset["replicatedJobs"]
    }
    for variable in job["spec"]["trainer"].get("env", ()):
        if variable["name"] in _RESERVED:
            yield f"spec.trainer.env: Invalid value: must not have reserved envs: {variable['name']}"
    for patch in job["spec"].get("runtimePatches", ()):
        if not _MANAGER.fullmatch(patch["manager"]):
            yield (
                f'spec.runtimePatches.manager: Invalid value: "{patch["manager"]}": '
                'must be a domain-prefixed path (such as "acme.io/foo")'
            )
        for rjob in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            for container in rjob["template"]["spec"]["template"]["spec"].get("containers", ()):
                if container["name"] not in containers.get(rjob["name"], ()):
                    yield "spec.runtimePatches: must not have container that doesn't exist in the runtime job"
                elif container.get("env"):
                    yield "spec.runtimePatches: must not have envs for the node containers"
    yield from _jobset(job, jobset)


def _jobset(job: Object, jobset: Object) -> Iterator[str]:
    last = job["spec"]["trainer"]["numNodes"] - 1
    for rjob in jobset["replicatedJobs"]:
        if len(f"{job['metadata']['name']}-{rjob['name']}-0-{last}-abcde") > _MAX_NAME:
            yield "JobSet name is too long, pod names generated for this JobSet will exceed 63 characters"
    for rule in jobset["failurePolicy"]["rules"]:
        if not _RULE_NAME.fullmatch(rule["name"]):
            yield f"invalid failure policy rule name '{rule['name']}'"


_POLICIES = ("torch", "mpi", "jax", "xgboost", "flux")


def runtime(thing: Object) -> Iterator[str]:
    """Trainer v2's rules of a ClusterTrainingRuntime, with those of the JobSet in it."""
    if sum(policy in thing["spec"].get("mlPolicy", {}) for policy in _POLICIES) > 1:
        yield "Only one of the policy can be configured"
    jobset = thing["spec"]["template"]["spec"]
    ordered = (jobset.get("startupPolicy") or {}).get("startupPolicyOrder") == "InOrder"
    if ordered and any("dependsOn" in rjob for rjob in jobset["replicatedJobs"]):
        yield "StartupPolicy and DependsOn APIs are mutually exclusive"


def clusterqueue(queue: Object) -> Iterator[str]:
    """Kueue's rules of its own CRD."""
    spec = queue.get("spec") or {}
    for group in spec.get("resourceGroups") or ():
        for flavor in group["flavors"]:
            if [each["name"] for each in flavor["resources"]] != group["coveredResources"]:
                yield "flavors must have the same number of resources as the coveredResources, in their order"
            if not spec.get("cohortName") and any("borrowingLimit" in each for each in flavor["resources"]):
                yield "borrowingLimit must be nil when cohort is empty"


def resourceflavor(flavor: Object) -> Iterator[str]:
    """Kueue's rules of its own CRD."""
    spec = flavor.get("spec") or {}
    if spec.get("topologyName") and not spec.get("nodeLabels"):
        yield "at least one nodeLabel is required when topology is set"


_TOPOLOGY = [f"kueue.x-k8s.io/podset-{how}-topology" for how in ("required", "preferred", "unconstrained")]
_GROUP = "kueue.x-k8s.io/podset-group-name"
_PAIR = 2


def podsets(annotations: list[dict[str, str]], counts: list[int]) -> Iterator[str]:
    """Kueue's rules of how near the pods of a job must be; a job has one or several sets of pods."""
    grouped = []
    for said, count in zip(annotations, counts, strict=True):
        levels = [said[key] for key in _TOPOLOGY if key in said]
        if len(levels) > 1:
            yield "must not contain more than one topology annotation"
        if _GROUP in said:
            grouped.append((said[_GROUP], count, levels))
            if not levels:
                yield f"{_GROUP} may not be set when neither a preferred nor a required topology is specified"
    if grouped and len(grouped) != _PAIR:
        yield f"can only define groups of exactly 2 pod sets, got: {len(grouped)} pod set(s)"
    if len(grouped) == _PAIR:
        (name, count, levels), (other_name, other_count, other_levels) = grouped
        if 1 not in (count, other_count):
            yield "can only define groups where at least one pod set has only 1 replica"
        if (name, levels) != (other_name, other_levels):
            yield "must specify the same topology in one group"

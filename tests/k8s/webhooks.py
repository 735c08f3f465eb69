"""What operators refuse beyond their schemas: the rules of their webhooks, from their sources and recorded answers."""

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

"""The names of a run's objects in Kubernetes, and the labels and annotations that find them again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from jobctl.jobs import kinds
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.resources import Object

MAX_NAME = 45
"""Operators add ``-worker-9999``, or ``-node-0-999-`` and five more of JobSet's. A pod has 63 characters."""
_DIGEST = 8
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MADE = re.compile(r".*(--.*|-[0-9a-f]{8})")
"""The form of the names that ``object_name`` makes. A run with such a name gets a digest as well."""

COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
RUN_ANNOTATION = "jobctl/run"
HASH_ANNOTATION = "jobctl/spec-hash"
OPERATORS_INIT_CONTAINER = "init-pytorch"
"""What the training operator calls the init container that it adds to each worker."""
RDMA_CAPABILITY = "IPC_LOCK"
"""The capability of our containers that pins memory, where the site has RDMA."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def object_name(job: str) -> str:
    """Return the name of the objects of ``job``: a run, or ``RUN:eval`` of a job on its checkpoint.

    It is a DNS label that begins with a letter, and no other job's. A run keeps its name where that is
    possible, and its evaluation is then ``RUN--eval``; else a digest of the whole name makes the difference.
    """
    run, step = kinds.split_name(job)
    is_plain = bool(_DNS_LABEL.fullmatch(run)) and not _MADE.fullmatch(run)
    name = f"{run}--{step}" if step else run
    if is_plain and len(name) <= MAX_NAME:
        return name

    readable = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")
    readable = readable if readable[:1].isalpha() else f"run-{readable}"
    digest = hashlib.sha256(job.encode()).hexdigest()[:_DIGEST]

    return f"{readable[: MAX_NAME - _DIGEST - 1].rstrip('-')}-{digest}"


def job_name(spec: JobSpec) -> str:
    """Return the name of the objects of ``spec``, with the kind of a job on a checkpoint."""
    assert spec.run is not None  # resolve names the run of every job of a cluster
    return object_name(kinds.job_name(spec.run, spec.step))


def selector(run: str) -> dict[str, str]:
    """Return the labels that all objects of one run, and no others, have."""
    return {INSTANCE: object_name(run), MANAGED_BY: "jobctl"}


def job_of(thing: Object) -> str:
    """Return a user's name for the job of an object: its run, or ``RUN:eval``."""
    metadata = thing["metadata"]
    labels: Mapping[str, str] = metadata.get("labels") or {}
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    run = annotations.get(RUN_ANNOTATION) or labels.get(INSTANCE) or metadata["name"]
    component = labels.get(COMPONENT, "")
    return kinds.job_name(run, component if component in kinds.ON_A_CHECKPOINT else "")


def is_of(thing: Object, run: str, step: str) -> bool:
    """Return whether an object is of the job ``step`` on the checkpoint of ``run``, or of the run itself.

    Its annotation says the run's whole name. Operators copy labels and annotations of the template to a pod.
    """
    metadata = thing["metadata"]
    labels: Mapping[str, str] = metadata.get("labels") or {}
    if not selector(run).items() <= labels.items():
        return False

    component = labels.get(COMPONENT)
    return component == step if step else component not in kinds.ON_A_CHECKPOINT


def is_ours(thing: Object, run: str, step: str) -> bool:
    """Return whether an object of this name was made for this job, so that it may be replaced or deleted."""
    annotations: Mapping[str, str] = thing["metadata"].get("annotations") or {}
    return is_of(thing, run, step) and annotations.get(RUN_ANNOTATION, run) == run


def labels(spec: JobSpec, run: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "jobctl",
        COMPONENT: spec.step,
        "app.kubernetes.io/version": re.sub(r"[^A-Za-z0-9._-]", "-", spec.version),
        **selector(run),
    }

"""What a run is called in Kubernetes, and the labels and annotations by which its objects are found again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from jobctl.jobs import kinds
from jobctl.jobs.spec.job_spec import JobSpec

MAX_NAME = 45
"""Of a pod's 63 characters the operators take ``-worker-9999``, or ``-node-0-999-`` and five more of JobSet's."""
_DIGEST = 8
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
RUN_ANNOTATION = "jobctl/run"
HASH_ANNOTATION = "jobctl/spec-hash"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def object_name(run: str) -> str:
    """The name of the run's ConfigMap and job: a DNS label that begins with a letter, and no other run's."""
    run = run.replace(":", "-")
    if len(run) <= MAX_NAME and _DNS_LABEL.fullmatch(run):
        return run

    plain = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"run-{plain}"
    digest = hashlib.sha256(run.encode()).hexdigest()[:_DIGEST]

    return f"{plain[: MAX_NAME - _DIGEST - 1].rstrip('-')}-{digest}"


def job_name(spec: JobSpec) -> str:
    """The name of ``spec``'s objects: the run's, or the run's and what is done with its checkpoint."""
    assert spec.run is not None  # resolve names the run of every job of a cluster
    return object_name(kinds.job_name(spec.run, spec.step))


def selector(run: str) -> dict[str, str]:
    """The labels that all objects of one run, and no others, have."""
    return {"app.kubernetes.io/instance": object_name(run), MANAGED_BY: "jobctl"}


def is_for(object_labels: Mapping[str, str], step: str) -> bool:
    """Whether an object is of the job on a checkpoint that does ``step``, or of the run itself for none."""
    component = object_labels.get(COMPONENT)
    return component == step if step else component not in kinds.ON_A_CHECKPOINT


def labels(spec: JobSpec, run: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "jobctl",
        COMPONENT: spec.step,
        "app.kubernetes.io/version": re.sub(r"[^A-Za-z0-9._-]", "-", spec.version),
        **selector(run),
    }

"""Check with the cluster, before a job is made, that its pods can run.

An operator makes the pods long after the job was accepted, and what refuses them then says nothing to the
job. So one pod is tried by a dry run in its namespace, and what the pods mount is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.queueing import check_queue
from jobctl.k8s.refusals import Refused, exceeds_for_ever
from jobctl.k8s.resources import CLAIM, POD, SECRET, Kind, Object

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

_REGISTRY = re.compile(r"[^/]+[.:][^/]*/|localhost/")
"""The form of the first part of an image's reference, if it names a registry."""
ONE_NODE_ONLY = {"ReadWriteOnce", "ReadWriteOncePod"}
"""Access modes of a claim that several nodes cannot mount for writing."""


def check(api: Api, spec: JobSpec, pod: Object, tell: Callable[[str], None]) -> None:
    """Raise UserError for faults that will stop the pods of ``spec``. ``tell`` of faults that only may."""
    for warning in image_warnings(spec.image):
        tell(f"note: {warning}")

    # The dry run of a pod does not look at claims and Secrets. They keep it from starting later, without an
    # error.
    check_claims(api, spec, pod)
    check_secrets(api, spec, pod)
    if spec.site.kubernetes.queue:
        check_queue(api, spec.site.kubernetes.namespace, spec.site.kubernetes.queue)

    try:
        api.create(POD, pod, dry_run=True)
    except Refused as refusal:
        # A quota may be free again when the pods are made, so it is a note and not an error.
        if refusal.status == 403 and "exceeded quota" in refusal.answer:
            _tell_of_quota(refusal, tell)
            return

        if "cannot create resource" in refusal.answer:
            # A user without the right to make pods can still make a job.
            return

        raise


def _tell_of_quota(refusal: Refused, tell: Callable[[str], None]) -> None:
    """Raise the refusal if the end of another job cannot help. Otherwise say that the pods wait."""
    if exceeds_for_ever(refusal.answer):
        raise refusal

    tell(f"note: the pods will wait: {refusal.message}")


def image_warnings(image: str) -> list[str]:
    """Return the doubts about an image's name."""
    if _REGISTRY.match(image):
        return []
    return [
        f"image {image} names no registry, so the nodes look for it at docker.io; --image REGISTRY/{image}"
    ]


def check_claims(api: Api, spec: JobSpec, pod: Object) -> None:
    """Raise UserError for a missing claim, or one for a single node if the job has several."""
    namespace = spec.site.kubernetes.namespace
    volumes = pod["spec"].get("volumes") or []
    names = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]

    for name in dict.fromkeys(names):
        claim = _look(api, CLAIM, namespace, name)
        if claim is None:
            continue

        modes = set(claim.get("spec", {}).get("accessModes") or [])
        if spec.resources.nodes > 1 and modes and modes <= ONE_NODE_ONLY:
            raise UserError(
                f"claim {name} is {', '.join(sorted(modes))}: only one node can mount it, and the job has "
                f"{spec.resources.nodes} pods on different nodes",
                hint="use a volume that is ReadWriteMany: kubernetes.pvc=NAME",
                code=1,
            )


def check_secrets(api: Api, spec: JobSpec, pod: Object) -> None:
    """Raise UserError for a missing Secret. Say nothing if the user may not read Secrets."""
    names = [v["secret"]["secretName"] for v in pod["spec"].get("volumes") or [] if "secret" in v]
    names += [each["name"] for each in pod["spec"].get("imagePullSecrets") or []]
    for name in dict.fromkeys(names):
        _look(api, SECRET, spec.site.kubernetes.namespace, name)


def _look(api: Api, kind: Kind, namespace: str, name: str) -> Object | None:
    """Return an object that pods need; None if the user may not see it. Raises UserError if it is missing."""
    try:
        thing = api.get(kind, namespace, name)
    except Refused as refusal:
        if refusal.status == 403:
            return None

        raise

    if thing is None:
        raise UserError(
            f"namespace {namespace} has no {kind.name} {name}; the pods would wait for it for ever",
            hint="create it, or name another one: docs/kubernetes.md",
            code=1,
        )

    return thing

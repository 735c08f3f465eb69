"""Kueue's reasons why a job in a queue is not admitted yet, or was evicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jobctl.jobs.core.errors import UserError
from jobctl.k8s import names
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import LOCAL_QUEUE, LOCAL_QUEUE_V1BETA1, WORKLOAD, WORKLOAD_V1BETA1, Object

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

_FOR_EVER = {"ExceedsMaxQuota", "Misconfigured"}
"""Reasons of QuotaReserved that do not pass when another job ends. Kueue gives them by a feature gate."""
_MISSING = ("doesn't exist", "terminating or missing")
"""Kueue's words for a missing queue without that gate."""
_TOO_MUCH = "maximum capacity"
"""Kueue's words for a job that asks for more than a queue ever has."""
_USED = "insufficient unused quota"


class Waiting(NamedTuple):
    """The reason why Kueue has not admitted a job."""

    why: str = ""
    """In Kueue's words; empty if it has admitted the job, or has given no reason."""
    for_ever: bool = False
    """Whether the job can only begin after somebody changes something."""


ADMITTED = Waiting()


def waiting_of(api: Api, namespace: str, jobs: Sequence[Object]) -> Waiting:
    """Return Kueue's reason for the newest of ``jobs``, none of which has ended."""
    queued = [job for job in jobs if names.QUEUE_LABEL in (job["metadata"].get("labels") or {})]
    if not queued:
        return ADMITTED

    uid = queued[-1]["metadata"].get("uid", "")
    for workload in _workloads(api, namespace):
        owners = workload["metadata"].get("ownerReferences") or []
        if any(owner.get("uid") == uid for owner in owners):
            return read_workload(workload)

    return ADMITTED


def _workloads(api: Api, namespace: str) -> list[Object]:
    """Return the Workloads; none without Kueue, or without the right to read them."""
    # The newer version first. An older Kueue does not serve it.
    for kind in (WORKLOAD, WORKLOAD_V1BETA1):
        try:
            return api.list_all(kind, namespace)
        except Refused:
            continue

    return []


def check_queue(api: Api, namespace: str, name: str) -> None:
    """Raise UserError for a missing queue. A job starts suspended, and nothing would admit it."""
    # An older Kueue serves only v1beta1.
    for kind in (LOCAL_QUEUE, LOCAL_QUEUE_V1BETA1):
        try:
            queue = api.get(kind, namespace, name)
        except Refused as refusal:
            if refusal.status == 404 and not refusal.object_missing:
                continue  # this version of the kind is not served

            return  # no right to see it

        if queue is None:
            raise UserError(
                f"namespace {namespace} has no LocalQueue {name}; the job would wait for it for ever",
                hint="see jobctl doctor --target k8s, or remove kubernetes.queue",
                code=1,
            )

        return

    raise UserError(
        f"kubernetes.queue is {name}, but the cluster has no Kueue, so nothing would admit the job",
        hint="remove kubernetes.queue",
        code=1,
    )


def read_workload(workload: Object) -> Waiting:
    """Return the reason why a Workload is not admitted; empty if it is admitted."""
    status = workload.get("status") or {}
    conditions = {condition.get("type", ""): condition for condition in status.get("conditions") or []}
    if conditions.get("Admitted", {}).get("status") == "True":
        return ADMITTED

    # Kueue first reserves quota, and then waits for the admission checks.
    reserved = conditions.get("QuotaReserved", {})
    lines = [_evicted(conditions), _deactivated(workload)]
    if reserved.get("status") == "False":
        lines.append(_words(reserved))
    elif reserved.get("status") == "True":
        lines += [_words(conditions.get("Admitted", {})), *_open_checks(status)]

    # After an eviction both conditions say the same, until Kueue has looked for quota again.
    said: list[str] = []
    for line in lines:
        if line and not any(line in earlier for earlier in said):
            said.append(line)

    return Waiting("; ".join(said), not _active(workload) or _is_for_ever(reserved))


def _active(workload: Object) -> bool:
    return (workload.get("spec") or {}).get("active") is not False


def _deactivated(workload: Object) -> str:
    if _active(workload):
        return ""

    name = workload["metadata"]["name"]
    return f"deactivated: set spec.active of Workload {name} to true, or cancel and resume the run"


def _evicted(conditions: dict[str, Object]) -> str:
    """Return the eviction of a running job. The condition holds until Kueue admits the job again."""
    evicted = conditions.get("Evicted", {})
    if evicted.get("status") != "True":
        return ""

    return f"evicted ({evicted.get('reason', '')}): {_words(evicted)}"


def _open_checks(status: Object) -> list[str]:
    """Return the admission checks that a job with quota still waits for."""
    checks = status.get("admissionChecks") or []
    return [
        f"check {check.get('name', '')} is {check.get('state', '')}: {check.get('message', '')}".rstrip(": ")
        for check in checks
        if check.get("state") != "Ready"
    ]


def _words(condition: Object) -> str:
    return str(condition.get("message") or condition.get("reason") or "")


def _is_for_ever(reserved: Object) -> bool:
    if reserved.get("status") != "False":
        return False

    reason = reserved.get("reason", "")
    words = _words(reserved)
    if any(part in words for part in _MISSING):
        return True

    # Each flavor has its words: one that others use may be free again.
    return reason in _FOR_EVER or (_TOO_MUCH in words and _USED not in words)

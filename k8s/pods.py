"""What the pods of a run say of themselves, read into one type; and why one is not running, in words."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobctl.k8s.resources import Object

_BORING = frozenset(("ContainerCreating", "PodInitializing"))


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """One pod of a job. ``index`` is its place among them: pod 0 writes the attempt's record."""

    name: str
    uid: str
    index: int
    phase: str
    created: str
    node: str = ""
    container: str = ""
    running: bool = False
    deleted: bool = False
    exit_code: int | None = None
    last_words: str = ""
    """What its container printed last, where it ended badly."""
    waiting: str = ""
    """Why it does not run yet."""


def index_of(labels: dict[str, str]) -> int:
    """A pod's place, from the labels of whichever operator made it."""
    if "batch.kubernetes.io/job-completion-index" in labels:
        return int(labels["batch.kubernetes.io/job-completion-index"])
    index = int(labels.get("training.kubeflow.org/replica-index", 0))
    return index + 1 if labels.get("training.kubeflow.org/replica-type") == "worker" else index


def read_pod(thing: Object) -> Pod:
    """A pod's JSON, of which any part may not be there yet."""
    meta = thing["metadata"]
    spec = thing.get("spec", {})
    status = thing.get("status", {})
    containers = spec.get("containers") or [{}]
    name = str(containers[0].get("name", ""))
    state = _state(status.get("containerStatuses") or [], name)
    ended = state.get("terminated") or {}

    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        index=index_of(meta.get("labels") or {}),
        phase=status.get("phase", "Pending"),
        created=meta.get("creationTimestamp") or "",
        node=spec.get("nodeName") or "",
        container=name,
        running="running" in state,
        deleted=bool(meta.get("deletionTimestamp")),
        exit_code=ended.get("exitCode"),
        last_words=_last_words(ended, status),
        waiting="" if ended or "running" in state else _waiting(status, state),
    )


def _state(statuses: Iterable[Object], container: str) -> Object:
    return next((s.get("state") or {} for s in statuses if s.get("name") == container), {})


def _last_words(ended: Object, status: Object) -> str:
    """The reason Kubernetes gives (OOMKilled, Evicted) and the end of what the container said."""
    reason = ended.get("reason") or status.get("reason") or ""
    said = (ended.get("message") or status.get("message") or "").strip()
    words = [] if reason in ("", "Completed", "Error") else [reason]
    return ": ".join([*words, *([said[-2000:]] if said else [])])


def _waiting(status: Object, state: Object) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return condition.get("message") or condition.get("reason") or ""

    waits = state.get("waiting") or {}
    for init in status.get("initContainerStatuses") or []:
        waits = waits or (init.get("state") or {}).get("waiting") or {}

    reason = waits.get("reason", "")
    message = waits.get("message", "")
    if reason in _BORING and not message:
        return ""

    return ": ".join(part for part in (reason, message) if part)


def newest(pods: Iterable[Pod]) -> list[Pod]:
    """One pod an index, the youngest, in the order of their index."""
    found: dict[int, Pod] = {}
    for pod in sorted(pods, key=lambda pod: pod.created):
        found[pod.index] = pod
    return [found[index] for index in sorted(found)]


def warnings_of(events: Iterable[Object]) -> list[str]:
    """What went wrong lately, each thing once, the newest last."""
    bad = [event for event in events if event.get("type") == "Warning"]
    bad.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return list(dict.fromkeys(f"{event.get('reason', '')}: {event.get('message', '')}" for event in bad))

"""The state of a run's pods as one type, and the reason in words if a pod is not running."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobctl.jobs.core.reading import decode_json
from jobctl.k8s.resources import Object

_BORING = frozenset(("ContainerCreating", "PodInitializing"))
"""Reasons of waiting that only say that the pod waits."""


class Ending(msgspec.Struct, frozen=True):
    """The end of an attempt, by its script (``report_end`` of ``templates/kubernetes/ending.sh``)."""

    attempt: int
    exit_code: int
    reason: str
    bad_nodes: str = ""
    """Nodes that its preflight found unfit, with commas between them."""


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
    deleted: str = ""
    """The time when a deleted pod should be gone; empty if it was not deleted."""
    exit_code: int | None = None
    ending: Ending | None = None
    """The end of its attempt. None while it runs, and if the container was killed before it could say so."""
    restarts: int = 0
    """The number of restarts of its container in this pod."""
    earlier: Ending | None = None
    """The end of the attempt before the container's last start."""
    last_words: str = ""
    """The last output of its container, if it failed."""
    waiting: str = ""
    """The reason why it does not run yet."""
    waits_for_ever: bool = False
    """Whether it can only run after a change, for example of its image's name."""

    @property
    def life(self) -> str:
        """Return the name of its container's current life. Each life has one attempt and one log."""
        return f"{self.uid}/{self.restarts}"


_HOPELESS = frozenset(
    (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    )
)
"""Reasons of waiting that seldom pass by themselves."""


def index_of(labels: dict[str, str]) -> int:
    """Return a pod's place, from the labels of the operator that made it."""
    if "batch.kubernetes.io/job-completion-index" in labels:
        return int(labels["batch.kubernetes.io/job-completion-index"])
    index = int(labels.get("training.kubeflow.org/replica-index", 0))
    # The operator numbers workers from 0, and pod 0 is the master.
    return index + 1 if labels.get("training.kubeflow.org/replica-type") == "worker" else index


def read_pod(thing: Object) -> Pod:
    """Return the pod of its JSON. Any part of the JSON may still be missing."""
    meta = thing["metadata"]
    spec = thing.get("spec", {})
    status = thing.get("status", {})
    containers = spec.get("containers") or [{}]
    name = str(containers[0].get("name", ""))
    container = _container(status.get("containerStatuses") or [], name)
    state = container.get("state") or {}
    ended = state.get("terminated") or {}
    before = (container.get("lastState") or {}).get("terminated") or {}
    ending, words = split_message(str(ended.get("message") or ""))
    waits = {} if ended or "running" in state else _waits(status, state)

    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        index=index_of(meta.get("labels") or {}),
        phase=status.get("phase", "Pending"),
        created=meta.get("creationTimestamp") or "",
        node=spec.get("nodeName") or "",
        container=name,
        running="running" in state,
        deleted=meta.get("deletionTimestamp") or "",
        exit_code=ended.get("exitCode"),
        ending=ending,
        restarts=int(container.get("restartCount") or 0),
        earlier=split_message(str(before.get("message") or ""))[0],
        last_words=_last_words({**ended, "message": words}, status),
        waiting=_in_words(waits),
        waits_for_ever=waits.get("reason") in _HOPELESS,
    )


def split_message(message: str) -> tuple[Ending | None, str]:
    """Return the first line of a container's message as the end of its attempt, and the rest of the message.

    A message of any other form is returned as it is: the container was killed, or it is no script of ours.
    """
    first, _, rest = message.partition("\n")
    try:
        return decode_json(first, Ending), rest
    except msgspec.MsgspecError:
        return None, message


def _container(statuses: Iterable[Object], name: str) -> Object:
    return next((status for status in statuses if status.get("name") == name), {})


def _last_words(ended: Object, status: Object) -> str:
    """Return the reason of Kubernetes (OOMKilled, Evicted) and the end of the container's message."""
    reason = ended.get("reason") or status.get("reason") or ""
    said = (ended.get("message") or status.get("message") or "").strip()
    # These words say no more than the exit code.
    words = [] if reason in ("", "Completed", "Error") else [reason]
    # The end of a long message is nearest to the failure.
    return ": ".join([*words, *([said[-2000:]] if said else [])])


def _waits(status: Object, state: Object) -> Object:
    """Return the reason why a pod does not run, and its message."""
    # A pod without a node has no containers yet, so this reason comes first.
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return {"message": condition.get("message") or condition.get("reason") or ""}

    waits: Object = state.get("waiting") or {}
    # An operator's init container runs first, and its image may be the one that is missing.
    for init in status.get("initContainerStatuses") or []:
        init_waits = (init.get("state") or {}).get("waiting") or {}
        if init_waits.get("reason") and init_waits["reason"] not in _BORING:
            message = f"init container {init.get('name', '')}: {init_waits.get('message', '')}"
            waits = {"reason": init_waits["reason"], "message": message.rstrip(": ")}

    return waits


def _in_words(waits: Object) -> str:
    reason = waits.get("reason", "")
    message = waits.get("message", "")
    if reason in _BORING and not message:
        return ""

    return ": ".join(part for part in (reason, message) if part)


def newest(pods: Iterable[Pod]) -> list[Pod]:
    """Return the youngest pod of each index, in the order of the index."""
    youngest: dict[int, Pod] = {}
    # A later pod of the same index replaces the earlier one.
    for pod in sorted(pods, key=lambda pod: pod.created):
        youngest[pod.index] = pod

    return [youngest[index] for index in sorted(youngest)]


def warnings_of(events: Iterable[Object]) -> list[str]:
    """Return recent faults, each once, the newest last."""
    bad = [event for event in events if event.get("type") == "Warning"]
    # Newer sources of events set eventTime alone.
    bad.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return list(dict.fromkeys(f"{event.get('reason', '')}: {event.get('message', '')}" for event in bad))

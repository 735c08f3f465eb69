"""What a Kubernetes API server keeps and refuses, without HTTP."""

from __future__ import annotations

import calendar
import copy
import re
import threading
import time
import uuid
from typing import Any

from tests.k8s import admission, webhooks
from tests.k8s.refusal import Refusal
from tests.k8s.schemas import KINDS, Problem, problems

Object = dict[str, Any]
CLUSTER = ""
"""The namespace of what has none."""
SERVED = {
    ("v1", "configmaps"): "ConfigMap",
    ("v1", "pods"): "Pod",
    ("v1", "events"): "Event",
    ("v1", "persistentvolumeclaims"): "PersistentVolumeClaim",
    ("v1", "secrets"): "Secret",
    ("v1", "nodes"): "Node",
    ("v1", "namespaces"): "Namespace",
    ("apps/v1", "deployments"): "Deployment",
    ("kueue.x-k8s.io/v1beta2", "workloads"): "Workload",
    ("kueue.x-k8s.io/v1beta2", "localqueues"): "LocalQueue",
    ("trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes"): "ClusterTrainingRuntime",
    ("batch/v1", "jobs"): "Job",
    ("kubeflow.org/v1", "pytorchjobs"): "PyTorchJob",
    ("trainer.kubeflow.org/v1alpha1", "trainjobs"): "TrainJob",
}
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")


class Store:
    """Objects by kind, namespace and name; every write makes a new resourceVersion."""

    def __init__(self) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.served = dict(SERVED)
        self.namespaces = {"jobctl"}
        self.quota: dict[str, str] = {}
        """By plural: the message with which a quota or a role refuses to create it."""
        self.runtimes: dict[str, Object] = {}
        """The ClusterTrainingRuntimes, by name."""
        self.objects: dict[tuple[str, str, str, str], Object] = {}
        self.version = 100
        self.security = "baseline"
        """The level of Pod Security that the namespace enforces."""
        self.pod_quota: dict[str, str] = {}
        """By resource, such as ``limits.memory``: the hard limit of a ResourceQuota on all pods together."""
        self._applied: dict[tuple[str, str, str, str], Object] = {}
        self._history: list[tuple[int, str, tuple[str, str, str], Object]] = []

    def kind(self, api_version: str, plural: str) -> str:
        try:
            return self.served[api_version, plural]
        except KeyError:
            raise Refusal(404, "", "404 page not found\n") from None

    def get(self, api_version: str, plural: str, namespace: str, name: str) -> Object:
        self.kind(api_version, plural)
        with self.lock:
            found = self.objects.get((api_version, plural, namespace, name))
            if found is None:
                raise self._missing(api_version, plural, name)
            return copy.deepcopy(found)

    def list_all(self, api_version: str, plural: str, namespace: str, selector: str = "") -> list[Object]:
        self.kind(api_version, plural)
        with self.lock:
            mine = [
                o for (a, p, n, _), o in self.objects.items() if (a, p, n) == (api_version, plural, namespace)
            ]
            return copy.deepcopy([o for o in mine if matches(o["metadata"].get("labels") or {}, selector)])

    def create(
        self, api_version: str, plural: str, namespace: str, thing: Object, dry_run: bool = False
    ) -> Object:
        name = thing["metadata"]["name"]
        self._check(api_version, plural, namespace, thing)
        with self.lock:
            if there := self.objects.get((api_version, plural, namespace, name)):
                raise _taken(api_version, plural, there)
            return self._put(api_version, plural, namespace, thing, dry_run)

    def apply(
        self, api_version: str, plural: str, namespace: str, thing: Object, dry_run: bool = False
    ) -> Object:
        """Server-side apply by the one manager that there is."""
        self._check(api_version, plural, namespace, thing)
        with self.lock:
            there = self.objects.get((api_version, plural, namespace, thing["metadata"]["name"]))
            if there is not None:
                _immutable(api_version, plural, there, thing)
            key = (api_version, plural, namespace, thing["metadata"]["name"])
            merged = thing
            if there is not None:
                # What this manager applied before and leaves out now goes away; what others wrote stays.
                merged = merge(copy.deepcopy(there), left_out(self._applied.get(key, {}), thing))
                merged = merge(merged, thing)
            if not dry_run:
                self._applied[key] = copy.deepcopy(thing)
            return self._put(api_version, plural, namespace, merged, dry_run)

    def patch(self, api_version: str, plural: str, namespace: str, name: str, change: Object) -> Object:
        """A merge patch; one that names another resourceVersion is a conflict."""
        with self.lock:
            there = self.get(api_version, plural, namespace, name)
            wanted = (change.get("metadata") or {}).get("resourceVersion")
            if wanted not in (None, there["metadata"]["resourceVersion"]):
                raise Refusal(
                    409, "Conflict", f"Operation cannot be fulfilled on {plural} {name!r}: it was modified"
                )
            return self._put(api_version, plural, namespace, merge(there, change))

    def delete(
        self,
        api_version: str,
        plural: str,
        namespace: str,
        name: str,
        *,
        grace: int | None = None,
        foreground: bool = False,
    ) -> Object:
        """Begin the end of an object, as the real server does.

        A pod that a kubelet has taken stays until its containers have ended, and longer where the node is dead; with
        a grace of 0 it goes at once. An owner deleted in the foreground stays until its pods are gone.
        """
        with self.lock:
            thing = self.get(api_version, plural, namespace, name)
            dependents = self._dependents(thing)
            if plural == "pods" and not _is_free(thing, grace):
                self._mark_deleted(api_version, plural, namespace, name, grace)
            elif foreground and dependents:
                finalizers = {"metadata": {"finalizers": ["foregroundDeletion"]}}
                self.patch(api_version, plural, namespace, name, finalizers)
                self._mark_deleted(api_version, plural, namespace, name, None)
            else:
                self.remove(api_version, plural, namespace, name)
            for version, kind, space, other in dependents:
                self.delete(version, kind, space, other)
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": name},
        }

    def remove(self, api_version: str, plural: str, namespace: str, name: str) -> None:
        """Take the object away, and the owner that waits for the last of what it owns."""
        with self.lock:
            key = (api_version, plural, namespace, name)
            thing = self.objects.pop(key, None)
            if thing is None:
                return
            self.version += 1
            self._note("DELETED", key, thing)
            owners = {owner["uid"] for owner in thing["metadata"].get("ownerReferences") or []}
            for other in list(self.objects):
                meta = self.objects[other]["metadata"]
                waits = meta.get("deletionTimestamp") and "foregroundDeletion" in (
                    meta.get("finalizers") or []
                )
                if meta["uid"] in owners and waits and not self._dependents(self.objects[other]):
                    self.remove(*other)

    def _dependents(self, thing: Object) -> list[tuple[str, str, str, str]]:
        uid = thing["metadata"]["uid"]
        return [
            key
            for key, other in self.objects.items()
            if uid in {owner["uid"] for owner in other["metadata"].get("ownerReferences") or []}
        ]

    def _mark_deleted(
        self, api_version: str, plural: str, namespace: str, name: str, grace: int | None
    ) -> None:
        thing = self.objects[api_version, plural, namespace, name]
        meta = thing["metadata"]
        seconds = grace if grace is not None else (thing["spec"].get("terminationGracePeriodSeconds") or 30)
        if "deletionTimestamp" in meta:
            # A later deletion can make the time shorter, counted from the first one, and never longer.
            before = meta["deletionGracePeriodSeconds"]
            seconds = min(seconds, before)
            due = calendar.timegm(time.strptime(meta["deletionTimestamp"], _TIME)) - before + seconds
        else:
            due = int(time.time()) + seconds
        change = {
            "deletionTimestamp": time.strftime(_TIME, time.gmtime(due)),
            "deletionGracePeriodSeconds": seconds,
        }
        self.patch(api_version, plural, namespace, name, {"metadata": change})

    def _put(
        self, api_version: str, plural: str, namespace: str, thing: Object, dry_run: bool = False
    ) -> Object:
        thing = copy.deepcopy(thing)
        thing |= {"apiVersion": api_version, "kind": self.served[api_version, plural]}
        meta = thing["metadata"]
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", now())
        if not dry_run:
            self.version += 1
        meta |= {"namespace": namespace, "resourceVersion": str(self.version)}
        if not dry_run:
            key = (api_version, plural, namespace, meta["name"])
            self._note("MODIFIED" if key in self.objects else "ADDED", key, thing)
            self.objects[key] = thing
        return copy.deepcopy(thing)

    def _note(self, type_: str, key: tuple[str, str, str, str], thing: Object) -> None:
        self._history.append((self.version, type_, key[:3], copy.deepcopy(thing)))
        self.lock.notify_all()

    def changes(
        self, api_version: str, plural: str, namespace: str, selector: str, since: int, seconds: float
    ) -> list[tuple[int, str, Object]]:
        """What was changed after version ``since``; waits so long for something."""
        with self.lock:
            found: list[tuple[int, str, Object]] = []

            def some() -> bool:
                found[:] = [
                    (version, type_, thing)
                    for version, type_, key, thing in self._history
                    if version > since
                    and key == (api_version, plural, namespace)
                    and matches(thing["metadata"].get("labels") or {}, selector)
                ]
                return bool(found)

            self.lock.wait_for(some, timeout=seconds)
            return found

    def _pods_of(self, namespace: str) -> list[Object]:
        return [
            o for (_, plural, space, _), o in self.objects.items() if (plural, space) == ("pods", namespace)
        ]

    def _missing(self, api_version: str, plural: str, name: str) -> Refusal:
        group = plural if "/" not in api_version else f"{plural}.{api_version.split('/')[0]}"
        return Refusal(404, "NotFound", f'{group} "{name}" not found', name=name, kind=plural)

    def _check(self, api_version: str, plural: str, namespace: str, thing: Object) -> None:
        kind, name = self.kind(api_version, plural), thing["metadata"].get("name", "")
        if namespace not in {*self.namespaces, CLUSTER}:
            raise Refusal(
                404, "NotFound", f'namespaces "{namespace}" not found', name=namespace, kind="namespaces"
            )
        if plural in self.quota:
            raise Refusal(403, "Forbidden", self.quota[plural])
        if plural == "pods":
            admission.check_pod(thing, self.security, self.pod_quota, self._pods_of(namespace))
        if f"{api_version} {kind}" not in KINDS:
            return
        for claim in (
            thing["spec"]["resources"]["requests"].values() if plural == "persistentvolumeclaims" else ()
        ):
            if not _QUANTITY.match(str(claim)):
                text = f"quantities must match the regular expression '{_QUANTITY.pattern}'"
                raise Refusal(
                    400, "BadRequest", f'{kind} in version "v1" cannot be handled as a {kind}: {text}'
                )
        found = problems(thing) + _minimum(thing)
        if unknown := [problem.path for problem in found if problem.what == "unknown"]:
            fields = ", ".join(f'unknown field "{path}"' for path in unknown)
            version = api_version.split("/")[-1]
            words = f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {fields}'
            raise Refusal(400, "BadRequest", words)
        if found:
            raise _invalid(api_version, kind, name, found)
        if plural == "pytorchjobs":
            _denied("validator.pytorchjob.training-operator.kubeflow.org", list(webhooks.pytorchjob(thing)))
        if plural == "trainjobs":
            said = list(webhooks.trainjob(thing, self.runtimes))
            _denied("validator.trainjob.trainer.kubeflow.org", said)


def _taken(api_version: str, plural: str, there: Object) -> Refusal:
    """The name is another object's, which may be on its way out."""
    name = there["metadata"]["name"]
    group = plural if "/" not in api_version else f"{plural}.{api_version.split('/')[0]}"
    leaving = "object is being deleted: " if there["metadata"].get("deletionTimestamp") else ""
    words = f'{leaving}{group} "{name}" already exists'
    return Refusal(409, "AlreadyExists", words, name=name, kind=plural)


def _is_free(pod: Object, grace: int | None) -> bool:
    """Whether no kubelet has to end anything before the pod is gone."""
    status = pod.get("status") or {}
    return grace == 0 or not pod["spec"].get("nodeName") or status.get("phase") in ("Succeeded", "Failed")


def _minimum(thing: Object) -> list[Problem]:
    """What the real server checks of replicas, though the CRD's schema does not say it."""
    specs = (thing.get("spec") or {}).get("pytorchReplicaSpecs") or {}
    return [
        Problem(
            "value",
            f".spec.pytorchReplicaSpecs.{role}.replicas",
            "Invalid value: should be a non-negative integer",
        )
        for role, spec in specs.items()
        if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0
    ]


def _invalid(api_version: str, kind: str, name: str, found: list[Problem]) -> Refusal:
    causes = [{"reason": "FieldValueInvalid", "message": p.message, "field": p.path} for p in found]
    words = ", ".join(f"{problem.path}: {problem.message}" for problem in found)
    message = f'{kind}.{api_version.split("/")[0]} "{name}" is invalid: [{words}]'
    return Refusal(422, "Invalid", message, name=name, kind=kind, causes=causes)


_IMMUTABLE = {
    "jobs": ("template", "completions", "completionMode"),
    "trainjobs": ("trainer", "runtimePatches", "runtimeRef", "activeDeadlineSeconds", "managedBy"),
    "localqueues": ("clusterQueue",),
}
"""Fields of a spec that nothing may change."""


def _immutable(api_version: str, plural: str, there: Object, thing: Object) -> None:
    for field in _IMMUTABLE.get(plural, ()):
        if there["spec"].get(field) != thing["spec"].get(field):
            problem = Problem("value", f"spec.{field}", "Invalid value: field is immutable")
            raise _invalid(api_version, thing["kind"], thing["metadata"]["name"], [problem])


def _denied(webhook: str, said: list[str]) -> None:
    if said:
        words = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
        raise Refusal(403, "Forbidden", f'admission webhook "{webhook}" denied the request: {words}')


def matches(labels: dict[str, str], selector: str) -> bool:
    for part in re.split(r",(?![^(]*\))", selector) if selector else ():
        if found := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", part.strip()):
            if (labels.get(found[1]) in found[3].split(",")) != (found[2] == "in"):
                return False
        elif labels.get(part.split("=")[0]) != part.split("=", 1)[1]:
            return False
    return True


def has_fields(thing: Object, selector: str) -> bool:
    """Whether an object is one that ``fieldSelector`` asks for."""
    for part in selector.split(",") if selector else ():
        path, _, value = part.partition("=")
        place: Any = thing
        for key in path.split("."):
            place = (place or {}).get(key)
        if place != value:
            return False
    return True


def left_out(before: Object, now: Object) -> Object:
    """A merge patch that takes away what was applied before and is not any more."""
    gone: Object = {}
    for key, value in before.items():
        if key not in now:
            gone[key] = None
        elif isinstance(value, dict) and isinstance(now[key], dict):
            gone[key] = left_out(value, now[key])
    return gone


def merge(there: Object, change: Object) -> Object:
    for key, value in change.items():
        if value is None:
            there.pop(key, None)
        elif isinstance(value, dict) and isinstance(there.get(key), dict):
            merge(there[key], value)
        else:
            there[key] = value
    return there


def now() -> str:
    return time.strftime(_TIME, time.gmtime())

"""``kubernetes.pod``: the user's additions to the pods, merged strategically into our template.

A mapping merges key by key, and a null takes a key away. A list whose elements have a name merges by that
name, as Kubernetes itself does it; any other list is appended to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.mounts import place_of
from jobctl.k8s.names import COMPONENT, INSTANCE, MANAGED_BY, RUN_ANNOTATION
from jobctl.k8s.resources import TRAINJOB, Kind, Object

MERGE_KEYS: dict[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose elements have a name, and the key that is the name (``x-kubernetes-patch-merge-key``)."""

CONTAINER = "jobctl"
"""The name of a job's container in ``kubernetes.pod``. Operators require other names."""

TRAINJOB_SPEC = frozenset(
    (
        "affinity",
        "containers",
        "imagePullSecrets",
        "initContainers",
        "nodeSelector",
        "schedulingGates",
        "securityContext",
        "serviceAccountName",
        "terminationGracePeriodSeconds",
        "tolerations",
        "volumes",
    )
)
TRAINJOB_CONTAINER = frozenset(("name", "securityContext", "volumeMounts"))
"""The fields of its pods and containers that a TrainJob can set. The runtime sets all others."""

_OURS: dict[tuple[str, ...], str] = {
    ("spec", "restartPolicy"): "the exit codes decide what is started again",
    ("spec", "activeDeadlineSeconds"): "time_limit is the limit of an attempt",
    ("spec", "terminationGracePeriodSeconds"): "stop_grace_seconds is the time to checkpoint in",
    ("spec", "nodeName"): "nodelist names the nodes",
    ("spec", "hostname"): "the operator names the pods",
    ("spec", "subdomain"): "the operator names the pods",
    ("metadata", "name"): "the operator names the pods",
    ("metadata", "namespace"): "kubernetes.namespace names it",
}
"""Fields that a key of jobctl sets, or that nobody may set."""
_OUR_LABELS = (COMPONENT, INSTANCE, MANAGED_BY, RUN_ANNOTATION)
_OUR_CONTAINER = ("command", "args", "image", "lifecycle")
_OUR_VOLUMES = ("workspace", "jobctl", "shm", "tmp", "secrets")
_OUR_LISTS = ("env", "volumeMounts")
"""Lists of our container to which a user adds, and whose elements are needed as they are."""


def merged(template: Object, options: Mapping[str, Any], kind: Kind) -> Object:
    """Return the pod template ``template`` of a job of ``kind`` with the user's ``options``.

    Raises UserError for fields that a user cannot set, and for fields that a TrainJob cannot set.
    """
    if not options:
        return template

    # The job's container is the first one, whatever name its operator requires.
    container = template["spec"]["containers"][0]["name"]
    # The check comes before the renaming, so that messages have the user's own names.
    _check(options, container)
    wanted = _with_name(options, container)
    if kind == TRAINJOB:
        _check_trainjob(wanted, container)

    result: Object = _merge(template, wanted, "")
    # After the merge, because only the result shows what a null has taken away.
    _check_kept(template["spec"], result["spec"])
    return result


def _check(options: Mapping[str, Any], container: str) -> None:
    for key in options:
        if key not in ("metadata", "spec"):
            raise _refusal(key, "it may have metadata (labels, annotations) and spec, like a pod")

    for (part, field), hint in _OURS.items():
        if field in _mapping(options, part):
            raise _refusal(f"{part}.{field}", hint)

    metadata = _mapping(options, "metadata")
    for part in metadata:
        if part not in ("labels", "annotations"):
            raise _refusal(f"metadata.{part}", "set only labels and annotations")

        for name in _mapping(metadata, part):
            if name in _OUR_LABELS:
                raise _refusal(f"metadata.{part}.{name}", "jobctl uses it to find the pods of a run")

    spec = _mapping(options, "spec")
    for volume in _elements(spec, "volumes"):
        if volume.get("name") in _OUR_VOLUMES:
            raise _refusal(
                f"spec.volumes {volume['name']}", "jobctl has a volume of that name; choose another"
            )

    for each in _elements(spec, "containers"):
        if each["name"] == container != CONTAINER:
            raise _refusal(
                f"spec.containers {container}", f"the container of the job is called {CONTAINER} here"
            )

        for field in _OUR_CONTAINER:
            if each.get("name") == CONTAINER and field in each:
                raise _refusal(f"spec.containers {CONTAINER}: {field}", "jobctl sets what runs; --image REF")


def _check_kept(before: Object, spec: Object) -> None:
    """Raise UserError if a null, or an element at the same place, removed something that a job needs."""
    for volume in before.get("volumes", []):
        if volume not in (spec.get("volumes") or []):
            raise _refusal("spec.volumes null", "the job needs the volumes that jobctl adds")

    needed = before["containers"][0]
    container = spec["containers"][0]
    for key in _OUR_LISTS:
        for element in needed.get(key, []):
            if element not in (container.get(key) or []):
                name = element[MERGE_KEYS[key]]
                raise _refusal(
                    f"spec.containers {CONTAINER}: {key} {name}", "the job needs the value that jobctl sets"
                )


def _check_trainjob(options: Mapping[str, Any], container: str) -> None:
    """Raise UserError for fields of a TrainJob's pods that only the runtime can set."""
    hint = "set it for all TrainJobs in your own ClusterTrainingRuntime, or for one run with --target k8s"
    spec = _mapping(options, "spec")
    for field in spec:
        if field not in TRAINJOB_SPEC:
            raise UserError(f"kubernetes.pod: a TrainJob cannot set spec.{field} of its pods", hint=hint)

    for each in _elements(spec, "containers"):
        fields = sorted(set(each) - TRAINJOB_CONTAINER)
        if fields and each.get("name") == container:
            raise UserError(
                f"kubernetes.pod: a TrainJob cannot set {', '.join(fields)} of its container", hint=hint
            )


def _refusal(place: str, hint: str) -> UserError:
    return UserError(f"kubernetes.pod: {place} cannot be set", hint=hint)


def _mapping(options: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = options.get(key, {})
    if not isinstance(value, Mapping):
        raise UserError(f"kubernetes.pod: {key} must be a mapping, not {value!r}")
    return value


def _elements(spec: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = spec.get(key, [])
    if not isinstance(value, list) or not all(
        isinstance(each, Mapping) and each.get("name") for each in value
    ):
        raise UserError(f"kubernetes.pod: spec.{key} must be a list of mappings, each with a name")
    return value


def _with_name(options: Mapping[str, Any], container: str) -> dict[str, Any]:
    """Return ``options`` with the operator's name of our container."""
    # A copy, because the options belong to the spec, which never changes.
    copied: dict[str, Any] = msgspec.to_builtins(options)
    for each in (copied.get("spec") or {}).get("containers") or []:
        if each["name"] == CONTAINER:
            each["name"] = container

    return copied


def _merge(template: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Merge ``wanted`` into a mapping of the template, which is at ``place`` of the pod.

    Raises UserError where the template has a mapping or a list, and ``wanted`` something else.
    """
    merged_keys = dict(template)
    for key, value in wanted.items():
        before = merged_keys.get(key)
        here = f"{place}.{key}".lstrip(".")
        if value is None:
            merged_keys.pop(key, None)
        elif isinstance(before, dict):
            if not isinstance(value, dict):
                raise UserError(f"kubernetes.pod: {here} must be a mapping, not {value!r}")

            merged_keys[key] = _merge(before, value, here)
        elif isinstance(before, list):
            if not isinstance(value, list):
                raise UserError(f"kubernetes.pod: {here} must be a list, not {value!r}")

            merged_keys[key] = _merge_lists(before, value, MERGE_KEYS.get(key, ""), here)
        else:
            merged_keys[key] = value

    return merged_keys


def _merge_lists(before: list[Any], wanted: list[Any], name: str, place: str) -> list[Any]:
    """Merge elements that have the same name, and append the others."""
    if not name:
        return [*before, *wanted]

    elements = list(before)
    seen: list[Any] = []
    for element in wanted:
        if not isinstance(element, dict):
            raise UserError(
                f"kubernetes.pod: {place} must be a list of mappings; {element!r} is not a mapping"
            )

        at_place = _same(name, element.get(name))
        if at_place in seen:
            raise UserError(f"kubernetes.pod: {place} has {element.get(name)!r} twice")

        seen.append(at_place)
        places = [at for at, known in enumerate(elements) if _same(name, known.get(name)) == at_place]
        if places:
            elements[places[0]] = _merge(elements[places[0]], element, f"{place} {element.get(name)}")
        else:
            elements.append(element)

    return elements


def _same(key: str, value: Any) -> Any:
    """Return the common form of an element's name. A path has several spellings."""
    return place_of(value) if key == "mountPath" and isinstance(value, str) else value

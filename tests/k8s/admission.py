"""What the API server refuses to a pod, in the words of the real one: wrong values, Pod Security and quotas."""

from __future__ import annotations

import re
from typing import Any

from tests.k8s.refusal import Refusal

Object = dict[str, Any]
_UNITS = {"": 1.0, "m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "G": 1e9}


def check_pod(pod: Object, security: str, quota: dict[str, str], others: list[Object]) -> None:
    """Raise Refusal for a pod that the namespace does not admit; ``others`` are the pods that are in it."""
    name = pod["metadata"]["name"]
    if wrong := _wrong_values(pod["spec"]):
        words = ", ".join(wrong)
        raise Refusal(422, "Invalid", f'Pod "{name}" is invalid: {words}', name=name, kind="Pod")

    if said := _violations(pod, security):
        words = f'violates PodSecurity "{security}:latest": {", ".join(said)}'
        raise Refusal(403, "Forbidden", f'pods "{name}" is forbidden: {words}')
    if quota:
        _check_quota(pod, quota, others)


def _containers(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]


def _wrong_values(spec: Object) -> list[str]:
    """Return what the schema allows and the API server's validation of pods does not."""
    wrong = []
    for number, volume in enumerate(spec.get("volumes") or []):
        claim = volume.get("persistentVolumeClaim")
        if claim is not None and not claim.get("claimName"):
            wrong.append(f"spec.volumes[{number}].persistentVolumeClaim.claimName: Required value")

    for number, container in enumerate(spec["containers"]):
        places: set[str] = set()
        for at, mount in enumerate(container.get("volumeMounts") or []):
            path = mount["mountPath"]
            if path in places:
                field = f"spec.containers[{number}].volumeMounts[{at}].mountPath"
                wrong.append(f'{field}: Invalid value: "{path}": must be unique')
            places.add(path)

    return wrong


def _violations(pod: Object, security: str) -> list[str]:
    said: list[str] = []
    if security == "privileged":
        return said
    if pod["spec"].get("hostNetwork"):
        said.append("host namespaces (hostNetwork=true)")
    for volume in pod["spec"].get("volumes") or []:
        if "hostPath" in volume:
            said.append(f'hostPath volumes (volume "{volume["name"]}")')
    for container in _containers(pod):
        context = container.get("securityContext") or {}
        added = (context.get("capabilities") or {}).get("add") or []
        if added:
            said.append(
                f'non-default capabilities (container "{container["name"]}" must not include '
                f'"{", ".join(added)}" in securityContext.capabilities.add)'
            )
        if security == "restricted":
            said += _unrestricted(container["name"], context, pod["spec"].get("securityContext") or {})
    return said


def _unrestricted(name: str, own: Object, pods: Object) -> list[str]:
    """What level restricted wants besides; a container may leave to its pod what it does not say itself."""
    said = []
    if own.get("allowPrivilegeEscalation") is not False:
        said.append(
            f'allowPrivilegeEscalation != false (container "{name}" must set '
            "securityContext.allowPrivilegeEscalation=false)"
        )
    if "ALL" not in ((own.get("capabilities") or {}).get("drop") or []):
        said.append(
            f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
        )
    if own.get("runAsNonRoot", pods.get("runAsNonRoot")) is not True:
        said.append(
            f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)'
        )
    profile = own.get("seccompProfile") or pods.get("seccompProfile") or {}
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        said.append(
            f'seccompProfile (pod or container "{name}" must set securityContext.seccompProfile.type to '
            '"RuntimeDefault" or "Localhost")'
        )
    return said


def _check_quota(pod: Object, quota: dict[str, str], others: list[Object]) -> None:
    """``quota`` is called compute; each of its resources is said by every container, and its sum is bounded."""
    name = pod["metadata"]["name"]
    missing = {
        resource: [c["name"] for c in _containers(pod) if _said(c, resource) is None] for resource in quota
    }
    if any(missing.values()):
        words = "; ".join(f"{resource} for: {','.join(who)}" for resource, who in missing.items() if who)
        raise Refusal(
            403, "Forbidden", f'pods "{name}" is forbidden: failed quota: compute: must specify {words}'
        )
    for resource, limit in quota.items():
        asked = _sum(pod, resource)
        # A pod that has ended uses nothing.
        used = sum(_sum(other, resource) for other in others if not _has_ended(other))
        if asked + used > amount(limit):
            raise Refusal(
                403,
                "Forbidden",
                f'pods "{name}" is forbidden: exceeded quota: compute, requested: {resource}={int(asked)}, '
                f"used: {resource}={int(used)}, limited: {resource}={limit}",
            )


def _has_ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _said(container: Object, resource: str) -> Any:
    side, _, name = resource.partition(".")
    return ((container.get("resources") or {}).get(side) or {}).get(name)


def _sum(pod: Object, resource: str) -> float:
    return sum(amount(_said(container, resource) or 0) for container in _containers(pod))


def amount(quantity: object) -> float:
    """A quantity of Kubernetes as a number."""
    number = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity))
    assert number, quantity
    return float(number[1]) * _UNITS[number[2]]

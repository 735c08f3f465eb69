"""What the API server refuses, in the words of those who asked."""

from __future__ import annotations

import json
import re
from typing import Any

from jobctl.jobs.core.errors import UserError

_UNKNOWN = re.compile(r'unknown field "([^"]+)"')
_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (\S+), used: (\S+), limited: (\S+)")
_RBAC = re.compile(r'User "([^"]+)" cannot (\w+) resource "([^"]+)".*?(?:in the namespace "([^"]+)")?$', re.S)
_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request: (.*)', re.S)
_NO_RUNTIME = re.compile(r"ClusterTrainingRuntime\S* \S+ not found")
_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found')
_UNCHECKED = "some validation rules were not checked"


class Refused(UserError):
    """The API server said no; ``status`` is HTTP's."""

    def __init__(
        self, message: str, *, hint: str = "", status: int = 0, object_missing: bool = False
    ) -> None:
        super().__init__(message, hint=hint, code=1)
        self.status = status
        self.object_missing = object_missing
        """Nothing is there under that name, though the kind is served."""


def refused(status: int, body: bytes, what: str, operator: str = "") -> Refused:
    """``what`` was asked; ``operator`` is who serves its kind, where that is not Kubernetes itself."""
    answer = _parse(body)
    if answer is None:
        return _not_json(status, body, what, operator)

    message = str(answer.get("message", "")) or f"status {status}"
    words = {400: _bad_request, 403: _forbidden, 404: _missing, 409: _conflict, 422: _invalid}.get(status)
    if status == 401:
        return Refused(
            f"{what}: the API server does not accept your credentials",
            hint="they have expired or are another cluster's: log in again, or choose with --context",
            status=401,
        )

    if words is None:
        return Refused(f"{what}: the API server answers {status}: {message}", status=status)

    text, hint = words(message, answer)
    missing = status == 404 and not _NAMESPACE.search(message)

    return Refused(f"{what}: {text}", hint=hint, status=status, object_missing=missing)


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except ValueError:
        return None

    return answer if isinstance(answer, dict) else None


def _not_json(status: int, body: bytes, what: str, operator: str) -> Refused:
    """A kind that is not installed has no handler, and what answers then writes plain text."""
    if status == 404:
        return Refused(
            f"{what}: the cluster does not serve this kind of object",
            hint=f"{operator} is not installed there; docs/kubernetes.md says how" if operator else "",
            status=404,
        )

    text = body.decode("utf-8", "replace").strip()[:300]
    return Refused(f"{what}: the API server answers {status}: {text}", status=status)


def _bad_request(message: str, _: dict[str, Any]) -> tuple[str, str]:
    fields = list(dict.fromkeys(_UNKNOWN.findall(message)))
    if fields:
        return (
            f"the cluster knows no field {', '.join(fields)}",
            "its operator is of another version than jobctl writes for: training operator 1.9, Trainer v2 from 2.2",
        )

    return message.split("cannot be handled as a ", 1)[-1], ""


def _forbidden(message: str, _: dict[str, Any]) -> tuple[str, str]:
    if _NO_RUNTIME.search(message):
        return (
            "the cluster has no ClusterTrainingRuntime that our TrainJobs run on",
            "an administrator makes it: kubectl apply --server-side -k k8s/manifests/trainer-v2",
        )

    if found := _WEBHOOK.search(message):
        return f"the cluster's policy {found[1]} says no: {found[2]}", ""

    if found := _QUOTA.search(message):
        name, requested, used, limited = found.groups()
        return (
            f"quota {name} is exhausted: asked for {requested}, in use {used}, limit {limited}",
            "wait for other jobs, ask for less, or set kubernetes.queue=… where the site has Kueue",
        )

    if "violates PodSecurity" in message:
        return (
            message.split("is forbidden: ", 1)[-1],
            "the namespace's pod-security level forbids it; RDMA needs level privileged, all else passes baseline",
        )

    if found := _RBAC.search(message):
        user, verb, resource, namespace = found.groups()
        place = f" in namespace {namespace}" if namespace else ""
        return (
            f"{user} may not {verb} {resource}{place}",
            "an administrator binds the role of k8s/manifests: kubectl apply -k k8s/manifests",
        )

    return message, ""


def _missing(message: str, _: dict[str, Any]) -> tuple[str, str]:
    if found := _NAMESPACE.search(message):
        return (
            f"there is no namespace {found[1]}",
            "choose one with --namespace, or make it: kubectl apply -k k8s/manifests",
        )

    return message, ""


def _conflict(message: str, answer: dict[str, Any]) -> tuple[str, str]:
    if answer.get("reason") == "AlreadyExists":
        return message, ""
    return f"someone else changed it at the same moment: {message}", "try again"


def _invalid(message: str, answer: dict[str, Any]) -> tuple[str, str]:
    causes = answer.get("details", {}).get("causes", [])
    words = [
        f"{cause.get('field', '').lstrip('.')}: {_after_field(cause)}"
        for cause in causes
        if _UNCHECKED not in cause.get("message", "")
    ]

    return "; ".join(words) or message, ""


def _after_field(cause: dict[str, str]) -> str:
    """A cause without the field's name, which the server says twice."""
    return cause.get("message", "").split(f"{cause.get('field', '')} in body ", 1)[-1]

"""Refusals of the API server, explained in the words of a user."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from jobctl.jobs.core.errors import UserError
from jobctl.k8s.names import OPERATORS_INIT_CONTAINER, RDMA_CAPABILITY
from jobctl.k8s.quantities import amount

Answer = dict[str, Any]
"""A Status object of Kubernetes."""

# These patterns follow messages of the API server, which it does not promise to keep. A message without a
# match is shown as it is.
_UNKNOWN_FIELD = re.compile(r'unknown field "([^"]+)"')
_EXCEEDED_QUOTA = re.compile(
    r"exceeded quota: (?P<name>\S+), requested: (?P<requested>\S+), used: (?P<used>\S+), limited: (?P<limit>\S+)"
)
_UNMET_QUOTA = re.compile(r"failed quota: (?P<name>\S+): must specify (?P<missing>.*)", re.DOTALL)
_NO_RIGHT = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'.*?(?:in the namespace "(?P<namespace>[^"]+)")?$',
    re.DOTALL,
)
_WEBHOOK = re.compile(r'admission webhook "(?P<name>[^"]+)" denied the request: (?P<reason>.*)', re.DOTALL)
_POLICY = re.compile(
    r"ValidatingAdmissionPolicy '(?P<name>[^']+)' with binding '[^']+' denied request: (?P<reason>.*)",
    re.DOTALL,
)
_NO_RUNTIME = re.compile(r"ClusterTrainingRuntime\S* \S+ not found")
_NO_NAMESPACE = re.compile(r'namespaces "(?P<name>[^"]+)" not found')
_POD_SECURITY = re.compile(r'violates PodSecurity "(?P<level>[a-z]+)[^"]*": (?P<reason>.*)', re.DOTALL)
_QUOTED = re.compile(r'"([^"]+)"')
_UNCHECKED = "some validation rules were not checked"


class Refused(UserError):
    """The API server said no; ``status`` is HTTP's."""

    def __init__(
        self, message: str, *, hint: str = "", status: int = 0, object_missing: bool = False, answer: str = ""
    ) -> None:
        super().__init__(message, hint=hint, code=1)
        self.status = status
        self.object_missing = object_missing
        """Whether no object has that name, although the kind is served."""
        self.answer = answer
        """The server's own words."""


class Explanation(NamedTuple):
    """A refusal in our words, and the remedy."""

    text: str
    hint: str = ""


def refused(status: int, body: bytes, subject: str, operator: str = "") -> Refused:
    """Return the error for an unsuccessful answer.

    ``subject`` is what the call was for; ``operator`` is who serves its kind, where that is not Kubernetes
    itself.
    """
    answer = _parse(body)
    # Only Kubernetes itself answers with a Status object.
    if answer is None:
        return _refused_in_plain_text(status, body, subject, operator)

    message = str(answer.get("message", "")) or f"status {status}"
    if status in _EXPLAIN:
        explanation = _EXPLAIN[status](message, answer)
    else:
        explanation = Explanation(f"the API server answers {status}: {message}")

    return Refused(
        f"{subject}: {explanation.text}",
        hint=explanation.hint,
        status=status,
        # A missing namespace is a 404 too, and then nothing is known of the object.
        object_missing=status == 404 and not _NO_NAMESPACE.search(message),
        answer=message,
    )


def exceeds_for_ever(message: str) -> bool:
    """Return whether a quota can never be met, because the request alone exceeds its limit.

    Else the pods wait until other jobs have ended.
    """
    quota = _EXCEEDED_QUOTA.search(message)
    if quota is None:
        # Without an exceeded quota, the end of other jobs changes nothing.
        return True

    requested = _amounts(quota["requested"])
    limits = _amounts(quota["limit"])

    # A limit that cannot be read counts as large enough.
    return any(wanted > limits.get(name, wanted) for name, wanted in requested.items())


def _amounts(text: str) -> dict[str, float]:
    """Return ``cpu=8,memory=2Gi`` as numbers. Leave out unreadable parts."""
    amounts: dict[str, float] = {}
    for part in text.split(","):
        name, _, quantity = part.partition("=")
        number = amount(quantity)
        if number is not None:
            amounts[name] = number

    return amounts


def _parse(body: bytes) -> Answer | None:
    try:
        answer = json.loads(body)
    except ValueError:
        return None

    return answer if isinstance(answer, dict) else None


def _refused_in_plain_text(status: int, body: bytes, subject: str, operator: str) -> Refused:
    """A kind that is not installed has no handler, and what answers then writes plain text."""
    if status == 404:
        return Refused(
            f"{subject}: the cluster does not serve this kind of object",
            hint=f"{operator} is not installed; docs/kubernetes.md says how to install it"
            if operator
            else "",
            status=404,
        )

    # A proxy in between may answer with a whole page.
    text = body.decode("utf-8", "replace").strip()[:300]
    return Refused(f"{subject}: the API server answers {status}: {text}", status=status, answer=text)


# ---- by status


def _bad_request(message: str, _: Answer) -> Explanation:
    fields = list(dict.fromkeys(_UNKNOWN_FIELD.findall(message)))
    if fields:
        return Explanation(
            f"the cluster does not know the field {', '.join(fields)}",
            "jobctl needs training operator 1.9, or Trainer v2 from 2.2 on; "
            "or it is a word of yours in kubernetes.pod",
        )

    return Explanation(message.split("cannot be handled as a ", 1)[-1])


def _unauthorized(_: str, __: Answer) -> Explanation:
    return Explanation(
        "the API server does not accept your credentials",
        "they have expired or belong to another cluster: log in again, or choose with --context",
    )


def _forbidden(message: str, _: Answer) -> Explanation:
    for explain in _FORBIDDEN:
        if explanation := explain(message):
            return explanation

    return Explanation(message.split(" is forbidden: ", 1)[-1])


def _missing(message: str, _: Answer) -> Explanation:
    if namespace := _NO_NAMESPACE.search(message):
        return Explanation(
            f"namespace {namespace['name']} does not exist",
            "choose one with --namespace, or make it: kubectl apply -k k8s/manifests",
        )

    return Explanation(message)


def _conflict(message: str, answer: Answer) -> Explanation:
    if "object is being deleted" in message:
        return Explanation(message, "wait until it is deleted; try again in a minute")

    if answer.get("reason") == "AlreadyExists":
        return Explanation(message)

    return Explanation(f"someone else changed it at the same moment: {message}", "try again")


def _invalid(message: str, answer: Answer) -> Explanation:
    if policy := _of_policy(message):
        return policy

    causes = (answer.get("details") or {}).get("causes") or []
    # The server adds this line to other causes, and it says nothing by itself.
    words = [_cause(cause) for cause in causes if _UNCHECKED not in cause.get("message", "")]

    return Explanation("; ".join(words) or message)


def _cause(cause: dict[str, str]) -> str:
    """Return the field and its error. The server's message often begins with the field too."""
    field = cause.get("field", "")
    message = cause.get("message", "")
    if not field:
        return message
    return f"{field.lstrip('.')}: {message.split(f'{field} in body ', 1)[-1]}"


# ---- why something is forbidden


def _of_runtime(message: str) -> Explanation | None:
    if not _NO_RUNTIME.search(message):
        return None

    return Explanation(
        "the cluster has no ClusterTrainingRuntime for our TrainJobs",
        "ask an administrator to create it: kubectl apply --server-side -k k8s/manifests/trainer-v2",
    )


def _of_webhook(message: str) -> Explanation | None:
    webhook = _WEBHOOK.search(message)
    return (
        Explanation(f"the cluster's policy {webhook['name']} refuses it: {webhook['reason']}")
        if webhook
        else None
    )


def _of_policy(message: str) -> Explanation | None:
    policy = _POLICY.search(message)
    return (
        Explanation(f"the cluster's policy {policy['name']} refuses it: {policy['reason']}")
        if policy
        else None
    )


def _of_quota(message: str) -> Explanation | None:
    if quota := _EXCEEDED_QUOTA.search(message):
        return Explanation(
            f"quota {quota['name']} is exhausted: asked for {quota['requested']}, in use {quota['used']}, "
            f"limit {quota['limit']}",
            "wait for other jobs, ask for less, or set kubernetes.queue=… if the cluster has Kueue",
        )

    if quota := _UNMET_QUOTA.search(message):
        return Explanation(
            f"quota {quota['name']} requires each container to set {quota['missing']}",
            "--set kubernetes.cpu_limit=CORES, --set kubernetes.memory_limit=GIB",
        )

    return None


def _of_pod_security(message: str) -> Explanation | None:
    violation = Violation.read(message)
    if violation is None:
        return None

    return Explanation(
        f"the namespace's pod security level {violation.level} forbids it: {violation.reason}",
        violation.hint,
    )


class Violation(NamedTuple):
    """A pod that the security level of its namespace does not allow."""

    level: str
    reason: str
    """The server's words: each rule, with the containers and the values that break it."""
    named: frozenset[str]
    """The names in quotes: containers, capabilities, volumes."""

    @classmethod
    def read(cls, message: str) -> Violation | None:
        """Return the violation that a message tells of, or None for another message."""
        match = _POD_SECURITY.search(message)
        if match is None:
            return None

        return cls(match["level"], match["reason"], frozenset(_QUOTED.findall(match["reason"])))

    @property
    def hint(self) -> str:
        """Return the remedy."""
        if RDMA_CAPABILITY in self.named:
            return (
                "RDMA pins memory, and only level privileged allows that: "
                "kubectl label namespace NAME pod-security.kubernetes.io/enforce=privileged; "
                "NAME is kubernetes.namespace (see jobctl explain)"
            )

        if OPERATORS_INIT_CONTAINER in self.named:
            return (
                "set level baseline, because the training operator's init container for workers needs it; "
                "or use --target k8s-trainjob"
            )

        return "our own pods satisfy level restricted; check kubernetes.pod and the mounts"


def _of_rights(message: str) -> Explanation | None:
    missing = _NO_RIGHT.search(message)
    if missing is None:
        return None

    place = f" in namespace {missing['namespace']}" if missing["namespace"] else ""
    return Explanation(
        f"{missing['user']} may not {missing['verb']} {missing['resource']}{place}",
        "ask an administrator to bind the role of k8s/manifests: kubectl apply -k k8s/manifests",
    )


# The first one that knows the message explains it: quotas, policies and rights all come as 403.
_FORBIDDEN: tuple[Callable[[str], Explanation | None], ...] = (
    _of_runtime,
    _of_webhook,
    _of_policy,
    _of_quota,
    _of_pod_security,
    _of_rights,
)
_EXPLAIN: dict[int, Callable[[str, Answer], Explanation]] = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _missing,
    409: _conflict,
    422: _invalid,
}

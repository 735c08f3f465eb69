"""Objects of one cluster: read, listed, made, changed and deleted, as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from jobctl.jobs.core.text import visible
from jobctl.k8s.connection import Connection, Request
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import POD, Kind, Object

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
MANAGER = "jobctl"
"""Our name in an object's list of field managers."""
STRICT = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
PAGE = 500
"""Objects of one answer to a list."""
SELF_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def _print_to_stderr(message: str) -> None:
    print(visible(message), file=sys.stderr, flush=True)


class Api:
    """One cluster as one user."""

    def __init__(
        self,
        context: str = "",
        *,
        announce: Callable[[str], None] = _print_to_stderr,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(context, announce=announce, sleep=sleep)
        self._user: str | None = None

    def user(self) -> str:
        """Return the user name that the server has for us; empty if the server does not say it."""
        if self._user is None:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            request = Request(method="POST", path=SELF_REVIEW, body=body, subject="asking who we are")
            try:
                review = self.call(request)
            except Refused:  # a server older than 1.28, or one that forbids the question
                review = {}

            info = (review.get("status") or {}).get("userInfo") or {}
            self._user = str(info.get("username", ""))

        return self._user

    # ---- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return the object, or None if none has this name.

        Raises Refused, also for a kind that is not served.
        """
        request = _request("GET", kind, namespace, name, subject=f"reading {kind.name} {name}")
        try:
            thing: Object = self.call(request)
        except Refused as refusal:
            if refusal.object_missing:
                return None

            raise

        return thing

    def list_all(self, kind: Kind, namespace: str, **query: str) -> list[Object]:
        """Return all objects that match. For a kind without namespaces, ``namespace`` is empty."""
        return self.list_at(kind, namespace, **query)[0]

    def list_at(self, kind: Kind, namespace: str, **query: str) -> tuple[list[Object], str]:
        """Return the objects, and the version from which ``wait_for_change`` continues.

        An object's own version may be too old for that.
        """
        items: list[Object] = []
        token = ""
        while True:
            page = {"limit": str(PAGE), **query, **({"continue": token} if token else {})}
            answer = self.call(_request("GET", kind, namespace, subject=f"listing {kind.plural}", query=page))
            # All pages show the objects as they were at the first request, so they fit together.
            items += answer.get("items") or []
            metadata = answer.get("metadata") or {}
            token = metadata.get("continue", "")
            if not token:
                return items, metadata.get("resourceVersion", "")

    def wait_for_change(
        self, kind: Kind, namespace: str, *, since: str, seconds: float, **query: str
    ) -> None:
        """Return when one of these objects changes, after ``seconds`` at the latest, or if the watch is cut.

        So the caller looks again, whatever the reason. Raises Refused where watching is not allowed.
        """
        watch = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(max(1, int(seconds)))}
        # The content of the first event does not matter. The caller lists again, and so also sees events
        # that it missed.
        with contextlib.suppress(ConnectionError):
            next(self.stream(kind.path(namespace), watch | query, f"watching {kind.plural}"), b"")

    def serves(self, kind: Kind) -> bool:
        """Return whether the cluster has this kind of object."""
        try:
            answer = self.call(Request(path=kind.group_path, subject=f"asking for {kind.name}"))
        except Refused as refusal:
            if refusal.status == 404:
                return False

            raise

        return any(resource["name"] == kind.plural for resource in answer.get("resources", ()))

    # ---- writing

    def create(self, kind: Kind, thing: Object, *, dry_run: bool = False) -> Object:
        """Make a new object. Raises Refused."""
        name, namespace = _place(thing)
        query = STRICT | ({"dryRun": "All"} if dry_run else {})
        subject = f"making {kind.name} {name}"
        made: Object = self.call(_request("POST", kind, namespace, subject=subject, query=query, body=thing))

        return made

    def apply(self, kind: Kind, thing: Object, *, dry_run: bool = False) -> Object:
        """Make or change an object by server-side apply, in strict mode. Raises Refused."""
        name, namespace = _place(thing)
        # force: fields that another program has changed become ours again.
        query = STRICT | {"force": "true"} | ({"dryRun": "All"} if dry_run else {})
        request = _request(
            "PATCH",
            kind,
            namespace,
            name,
            subject=f"{kind.name} {name}",
            query=query,
            body=thing,
            content_type=APPLY,
        )
        made: Object = self.call(request)

        return made

    def annotate(self, kind: Kind, namespace: str, name: str, **annotations: str | None) -> None:
        """Set annotations ``jobctl/NAME``. The value None removes one."""
        body = {"metadata": {"annotations": {f"jobctl/{key}": value for key, value in annotations.items()}}}
        request = _request(
            "PATCH",
            kind,
            namespace,
            name,
            subject=f"marking {kind.name} {name}",
            query={"fieldManager": MANAGER},
            body=body,
            content_type=MERGE,
        )
        self.call(request)

    def delete(
        self, kind: Kind, namespace: str, name: str, *, grace_seconds: int | None = None, last: bool = False
    ) -> None:
        """Delete an object and its dependents; with ``last``, the dependents first. It may be missing."""
        options: Object = {"propagationPolicy": "Foreground" if last else "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds

        subject = f"deleting {kind.name} {name}"
        try:
            self.call(_request("DELETE", kind, namespace, name, subject=subject, body=options))
        except Refused as refusal:
            if not refusal.object_missing:
                raise

    # ---- calls

    def call(self, request: Request) -> Any:
        """Return the answer's JSON. Raises Refused, and UserError when nobody answers."""
        response = self._connection.send(request)
        return json.loads(response.data) if response.data else {}

    def stream(self, path: str, query: dict[str, str], subject: str) -> Iterator[bytes]:
        """Yield pieces of an endless answer. Raises ConnectionError if it breaks before its end."""
        return self._connection.stream(Request(path=path, query=query, subject=subject))

    def execute(
        self, namespace: str, pod: str, container: str, command: list[str], *, terminal: bool = False
    ) -> Any:
        """Return a websocket on a command in a pod. Raises Refused and ConnectionError."""
        path = f"{POD.path(namespace, pod)}/exec"
        return self._connection.execute(path, container, command, f"entering pod {pod}", terminal=terminal)

    def forward(self, namespace: str, pod: str, port: int) -> Any:
        """Return a websocket on a port of a pod. Raises Refused and ConnectionError."""
        target = f"{POD.path(namespace, pod)}/portforward?ports={port}"
        return self._connection.open_socket(target, f"reaching port {port} of pod {pod}")


def _place(thing: Object) -> tuple[str, str]:
    """Return the name and the namespace of an object."""
    metadata = thing["metadata"]
    return metadata["name"], metadata.get("namespace", "")


def _request(
    method: str,
    kind: Kind,
    namespace: str,
    name: str = "",
    *,
    subject: str,
    query: dict[str, str] | None = None,
    body: Object | None = None,
    content_type: str = "application/json",
) -> Request:
    """Return a call about an object, or about all objects of a kind if ``name`` is empty."""
    return Request(
        method=method,
        path=kind.path(namespace, name),
        query=query or {},
        body=body,
        content_type=content_type,
        subject=subject,
        operator=kind.operator,
    )

"""The only place that talks to an API server: JSON in and out, with patience, and errors that people can use.

The official client reads the kubeconfig, runs its credential plugins and keeps the connections. Its typed calls are
left alone: each release has other types, and 37 refuses by itself what the server would explain.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import Patience, Unanswered, ask
from jobctl.jobs.core.text import visible
from jobctl.k8s.refusals import Refused, refused
from jobctl.k8s.resources import Kind, Object

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
MANAGER = "jobctl"
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""
SILENCE = 300.0
"""Seconds after which a stream that says nothing is taken for dead: a connection may be gone without a word."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
PATIENCE = 60.0
"""Seconds between two requests to a server that does not answer, and seconds after which we give up."""
_PASSING = frozenset((429, 500, 502, 503, 504))


class Api:
    """One cluster as one user. What passes is waited for, ``PATIENCE`` seconds."""

    def __init__(
        self,
        context: str = "",
        *,
        announce: Callable[[str], None] = lambda message: print(
            visible(message), file=sys.stderr, flush=True
        ),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._context = context
        self._announce = announce
        self._sleep = sleep
        self._client = _client(context)

    @property
    def host(self) -> str:
        return str(self._client.configuration.host).rstrip("/")

    # ---- objects

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None where there is none of this name. Raises Refused, also for a kind that is not served."""
        try:
            found: Object = self.call(
                "GET", kind.path(namespace, name), what=f"reading {kind.name} {name}", kind=kind
            )
            return found
        except Refused as refusal:
            if refusal.object_missing:
                return None

            raise

    def list_all(self, kind: Kind, namespace: str, **query: str) -> list[Object]:
        """All objects that match, in pages."""
        return self.list_at(kind, namespace, **query)[0]

    def list_at(self, kind: Kind, namespace: str, **query: str) -> tuple[list[Object], str]:
        """The same; and the resource version from which ``wait_for_change`` goes on: an object's own may be too old."""
        items: list[Object] = []
        token = ""
        while True:
            page = {"limit": "500", **query, **({"continue": token} if token else {})}
            answer = self.call(
                "GET", kind.path(namespace), query=page, what=f"listing {kind.plural}", kind=kind
            )
            items += answer.get("items") or []
            metadata = answer.get("metadata") or {}
            token = metadata.get("continue", "")
            if not token:
                return items, metadata.get("resourceVersion", "")

    def wait_for_change(
        self, kind: Kind, namespace: str, *, since: str, seconds: float, **query: str
    ) -> None:
        """Return when one of these objects changes; at the latest after ``seconds``, and whenever the watch is cut.

        So who calls looks again, whatever the reason. Raises Refused where watching is not allowed.
        """
        watch = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(max(1, int(seconds)))}
        with contextlib.suppress(ConnectionError):
            next(self.stream(kind.path(namespace), watch | query, f"watching {kind.plural}"), b"")

    def create(self, kind: Kind, thing: Object) -> Object:
        name = thing["metadata"]["name"]
        namespace = thing["metadata"]["namespace"]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        what = f"making {kind.name} {name}"
        made: Object = self.call("POST", kind.path(namespace), query=query, body=thing, what=what, kind=kind)
        return made

    def apply(self, kind: Kind, thing: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply, in strict mode."""
        name = thing["metadata"]["name"]
        namespace = thing["metadata"]["namespace"]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": "true"}
        query |= {"dryRun": "All"} if dry_run else {}
        what = f"{kind.name} {name}"
        path = kind.path(namespace, name)
        made: Object = self.call(
            "PATCH", path, query=query, body=thing, content_type=APPLY, what=what, kind=kind
        )

        return made

    def annotate(self, kind: Kind, namespace: str, name: str, **annotations: str | None) -> None:
        """Set annotations ``jobctl/NAME``; None takes one away."""
        body = {"metadata": {"annotations": {f"jobctl/{key}": value for key, value in annotations.items()}}}
        path = kind.path(namespace, name)
        what = f"marking {kind.name} {name}"
        query = {"fieldManager": MANAGER}
        self.call("PATCH", path, query=query, body=body, content_type=MERGE, what=what, kind=kind)

    def delete(
        self, kind: Kind, namespace: str, name: str, *, grace_seconds: int | None = None, last: bool = False
    ) -> None:
        """Delete it and what belongs to it, which with ``last`` goes first. What is not there is no error."""
        options: Object = {"propagationPolicy": "Foreground" if last else "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds

        try:
            self.call(
                "DELETE",
                kind.path(namespace, name),
                body=options,
                what=f"deleting {kind.name} {name}",
                kind=kind,
            )
        except Refused as refusal:
            if not refusal.object_missing:
                raise

    def serves(self, kind: Kind) -> bool:
        try:
            answer = self.call("GET", kind.group_path, what=f"asking for {kind.name}")
        except Refused as refusal:
            if refusal.status == 404:
                return False

            raise

        return any(resource["name"] == kind.plural for resource in answer.get("resources", ()))

    # ---- how a call is made

    def call(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        kind: Kind | None = None,
    ) -> Any:
        """The answer's JSON. Raises Refused, and UserError when nobody answers within the patience."""
        data = None if body is None else json.dumps(body).encode()
        operator = kind.operator if kind else ""
        response = self._patiently(method, path, query, data, content_type, what, operator)
        return json.loads(response.data) if response.data else {}

    def stream(self, path: str, query: dict[str, str], what: str) -> Iterator[bytes]:
        """Pieces of an answer that may take for ever. Raises ConnectionError when it breaks before its end."""
        import urllib3

        response = self._patiently("GET", path, query, None, "application/json", what, "", endless=True)
        try:
            yield from response.stream(16384)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"{what}: {error}") from None
        finally:
            response.close()

    def _patiently(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        data: bytes | None,
        content_type: str,
        what: str,
        operator: str,
        endless: bool = False,
    ) -> Any:
        """Return a response that succeeded. What passes is asked again, for ``PATIENCE`` seconds.

        Raises Refused, and UserError when no server answers.
        """
        renewed = False

        def request() -> Any:
            nonlocal renewed
            response, trouble = self._try(method, path, query, data, content_type, endless)
            if response is None:
                raise Unanswered(self._notice(trouble), self._silence(what, trouble))

            if response.status == 401 and not renewed:
                # A credential plug-in gives a new token when we ask it again.
                renewed = True
                self._client = _client(self._context)
                return request()

            if response.status < 300:
                return response

            refusal = refused(response.status, response.data, what, operator)
            if response.status not in _PASSING:
                raise refusal

            wait = float(response.headers.get("Retry-After") or 0)
            raise Unanswered(self._notice(response.status), refusal, wait)

        limits = Patience(PATIENCE, FIRST_PAUSE, LONGEST_PAUSE)

        return ask(request, limits, announce=self._announce, sleep=self._sleep)

    def _notice(self, answer: object) -> str:
        return f"jobctl: {self.host} answers {answer}; trying again"

    def _silence(self, what: str, trouble: str) -> UserError:
        return UserError(
            f"{what}: no API server answers at {self.host}: {trouble}",
            hint="is the cluster up, the VPN on, and --context right?",
            code=1,
        )

    def _try(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        data: bytes | None,
        content_type: str,
        endless: bool,
    ) -> tuple[Any, str]:
        """An answer, or None and what came instead of one."""
        import urllib3

        connect, read = TIMEOUT
        headers = {"Accept": "application/json", "User-Agent": "jobctl", **self._authorization()}
        if data is not None:
            headers["Content-Type"] = content_type

        try:
            response = self._client.rest_client.pool_manager.request(
                method,
                self.host + path + ("?" + urlencode(query) if query else ""),
                body=data,
                headers=headers,
                retries=False,
                preload_content=not endless,
                redirect=False,
                timeout=urllib3.Timeout(connect=connect, read=SILENCE if endless else read),
            )

            if endless and response.status >= 300:
                response.read(cache_content=True)

            return response, ""
        except urllib3.exceptions.HTTPError as error:
            return None, str(error).rsplit(": ", 1)[-1]

    def _authorization(self) -> dict[str, str]:
        settings = self._client.configuration.auth_settings().values()
        return {
            setting["key"]: setting["value"]
            for setting in settings
            if setting["value"] and setting["in"] == "header"
        }

    def execute(self, namespace: str, pod: str, container: str, command: list[str]) -> Any:
        """A websocket on a command in a pod, with channels for its input, output and errors.

        Raises Refused when the pod may not be entered, ConnectionError when the connection fails.
        """
        words = [("command", word) for word in command]
        streams = [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
        query = urlencode([*words, *streams], quote_via=quote)
        url = self.host.replace("http", "ws", 1) + f"/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}"
        what = f"entering pod {pod}"

        try:
            return self._connect(url, what)
        except Refused as refusal:
            if refusal.status != 401:
                raise

            self._client = _client(self._context)
            return self._connect(url, what)

    def _connect(self, url: str, what: str) -> Any:
        from kubernetes.stream.ws_client import WSClient
        from websocket import WebSocketBadStatusException, WebSocketException

        try:
            return WSClient(self._client.configuration, url, self._authorization(), False, binary=True)
        except WebSocketBadStatusException as error:
            if error.status_code in _PASSING:
                raise ConnectionError(f"{what}: the API server answers {error.status_code}") from None

            raise refused(error.status_code, error.resp_body or b"", what) from None
        except (WebSocketException, OSError) as error:
            raise ConnectionError(f"{what}: {error}") from None


def _client(context: str) -> Any:
    """The official client, set up by the kubeconfig, or by the pod that we are in. Raises UserError."""
    try:
        from kubernetes import client, config
    except ImportError:
        raise UserError(
            "the Kubernetes client is not installed",
            hint="pip install 'jobctl[k8s]'   (jobctl render works without)",
        ) from None

    configuration = client.Configuration()
    try:
        # The client looks at the variable once, when it is imported.
        file = os.environ.get("KUBECONFIG") or None
        config.load_kube_config(config_file=file, context=context or None, client_configuration=configuration)
    except config.ConfigException as problem:
        if context:
            raise UserError(
                f"context {context}: {problem}", hint="kubectl config get-contexts lists them"
            ) from None

        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            raise UserError(
                f"no cluster is configured: {problem}", hint="set KUBECONFIG, or choose with --context NAME"
            ) from None

    return client.ApiClient(configuration)

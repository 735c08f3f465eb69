"""Requests to one API server as one user, with repetition, and with errors that help the user.

The official client reads the kubeconfig, runs its credential plugins and keeps the connections. Its typed
calls are not used: each release has other types, and 37 refuses by itself what the server would explain.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from jobctl.jobs.core.errors import NotConfigured, UserError
from jobctl.jobs.core.extras import install_hint
from jobctl.jobs.core.patience import Patience, Unanswered, ask
from jobctl.k8s.refusals import Refused, refused

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""The longest pause between two pieces of an answer."""
SILENCE = 300.0
"""Seconds after which a silent stream counts as dead. A connection may go without a word."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
"""Seconds between two requests to a server that does not answer."""
PATIENCE = 60.0
"""Seconds after which a request to such a server fails."""
PIECE_BYTES = 16384
PASSING = frozenset((429, 500, 502, 503, 504))
"""HTTP codes of answers that may soon be different."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the API."""

    method: str = "GET"
    path: str
    query: dict[str, str] = {}
    body: dict[str, Any] | None = None
    content_type: str = "application/json"
    subject: str
    """The purpose of the call. An error message begins with it."""
    operator: str = ""
    """The software that serves the kind of object, if Kubernetes itself does not."""
    endless: bool = False
    """Whether the answer has no end and is read in pieces."""

    @property
    def target(self) -> str:
        """The path with its query."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    @property
    def data(self) -> bytes | None:
        """The body as it is sent."""
        return None if self.body is None else json.dumps(self.body).encode()


class Connection:
    """A cluster of the kubeconfig."""

    def __init__(
        self, context: str, *, announce: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._context = context
        self._announce = announce
        self._sleep = sleep
        self._client = _client(context)

    @property
    def host(self) -> str:
        """The address of the API server, without a slash at its end."""
        return str(self._client.configuration.host).rstrip("/")

    def send(self, request: Request) -> Any:
        """Return a successful response. After a temporary error, repeat the request for ``PATIENCE`` seconds.

        Raises Refused, and UserError when no server answers or its certificate is not trusted.
        """
        limits = Patience(PATIENCE, FIRST_PAUSE, LONGEST_PAUSE)
        renewed = False

        def attempt() -> Any:
            nonlocal renewed
            response = self._try(request)
            if response.status == 401 and not renewed:
                # A credential plug-in gives a new token when the kubeconfig is read again.
                renewed = True
                self._client = _client(self._context)
                return attempt()

            if response.status < 300:
                return response

            raise self._refusal(request, response)

        return ask(attempt, limits, announce=self._announce, sleep=self._sleep)

    def stream(self, request: Request) -> Iterator[bytes]:
        """Yield the pieces of an endless answer. Raises ConnectionError when it breaks before its end."""
        import urllib3

        response = self.send(msgspec.structs.replace(request, endless=True))
        try:
            yield from response.stream(PIECE_BYTES)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"{request.subject}: {error}") from None
        finally:
            response.close()

    def execute(
        self, path: str, container: str, command: list[str], subject: str, *, terminal: bool = False
    ) -> Any:
        """Return a websocket on a command in a pod, with channels for its input, output and errors.

        On a ``terminal`` errors come with the output. Raises Refused when the pod may not be entered,
        ConnectionError when the connection fails.
        """
        last = "tty" if terminal else "stderr"
        streams = [("container", container), ("stdin", "true"), ("stdout", "true"), (last, "true")]
        words = [("command", word) for word in command]
        query = urlencode([*words, *streams], quote_via=quote)

        return self.open_socket(f"{path}?{query}", subject)

    def open_socket(self, target: str, subject: str) -> Any:
        """Return a websocket of the client at ``target``, a path with its query."""
        try:
            return self._connect(target, subject)
        except Refused as refusal:
            if refusal.status != 401:
                raise

        # The token may have expired since the kubeconfig was read. Once: a second 401 is a refusal.
        self._client = _client(self._context)

        return self._connect(target, subject)

    def _try(self, request: Request) -> Any:
        """Return any answer. Raises Unanswered if none came, and UserError for a bad certificate."""
        import urllib3

        headers = {"Accept": "application/json", "User-Agent": "jobctl", **self._authorization()}
        data = request.data
        if data is not None:
            headers["Content-Type"] = request.content_type

        silence = SILENCE if request.endless else READ_SECONDS
        try:
            response = self._client.rest_client.pool_manager.request(
                request.method,
                self.host + request.target,
                body=data,
                headers=headers,
                # urllib3 would repeat requests without a word, but each repeat must be announced. A redirect
                # would carry the token to another place.
                retries=False,
                preload_content=not request.endless,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=silence),
            )

            # A refusal is short, and its body has the reason. It is read also where a stream was asked for.
            if request.endless and response.status >= 300:
                response.read(cache_content=True)

            return response
        except urllib3.exceptions.SSLError as error:
            # A certificate does not become right by asking again.
            raise self._not_trusted(request, _reason(error)) from None
        except urllib3.exceptions.LocationValueError as error:
            # An address does not become one by asking again.
            raise self._no_address(request, str(error)) from None
        except urllib3.exceptions.HTTPError as error:
            reason = _reason(error)
            raise Unanswered(self._notice(reason), self._silence(request, reason)) from None

    def _refusal(self, request: Request, response: Any) -> Exception:
        """Return the error for an unsuccessful answer."""
        refusal = refused(response.status, response.data, request.subject, request.operator)
        if response.status not in PASSING:
            return refusal

        return Unanswered(self._notice(response.status), refusal, _wait_asked_by(response))

    def _notice(self, answer: object) -> str:
        return f"jobctl: {self.host} answers {answer}; trying again for {PATIENCE:.0f} s"

    def _silence(self, request: Request, reason: str) -> UserError:
        return UserError(
            f"{request.subject}: no API server answers at {self.host}: {reason}",
            hint="is the cluster up, the VPN on, and --context right?",
            code=1,
        )

    def _not_trusted(self, request: Request, reason: str) -> UserError:
        return UserError(
            f"{request.subject}: the certificate of {self.host} is not accepted: {reason}",
            hint="certificate-authority in the kubeconfig is of another cluster or out of date; get a new kubeconfig",
            code=1,
        )

    def _no_address(self, request: Request, reason: str) -> UserError:
        return UserError(
            f"{request.subject}: server {self.host!r} in the kubeconfig is not an address: {reason}",
            hint="it must have the form https://HOST:PORT",
            code=1,
        )

    def _authorization(self) -> dict[str, str]:
        settings = self._client.configuration.auth_settings().values()
        return {
            setting["key"]: setting["value"]
            for setting in settings
            if setting["value"] and setting["in"] == "header"
        }

    def _connect(self, target: str, subject: str) -> Any:
        from kubernetes.stream.ws_client import WSClient
        from websocket import WebSocketBadStatusException, WebSocketException

        # https becomes wss in the same way.
        url = self.host.replace("http", "ws", 1) + target
        try:
            # As bytes, because the files of a run are no texts.
            return WSClient(self._client.configuration, url, self._authorization(), False, binary=True)
        except WebSocketBadStatusException as error:
            # The caller repeats after a ConnectionError, and not after a refusal.
            if error.status_code in PASSING:
                raise ConnectionError(f"{subject}: the API server answers {error.status_code}") from None

            raise refused(error.status_code, error.resp_body or b"", subject) from None
        except (WebSocketException, OSError) as error:
            raise ConnectionError(f"{subject}: {error}") from None


def _wait_asked_by(response: Any) -> float:
    """Return the seconds that a server asks to wait; 0 if it does not, or in words that are not of the standard.

    Retry-After has seconds or a date (RFC 9110, section 10.2.3).
    """
    import urllib3

    asked = response.headers.get("Retry-After")
    try:
        return float(urllib3.Retry().parse_retry_after(asked)) if asked else 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _reason(error: Exception) -> str:
    """Return the last part of an error's text, which names the cause."""
    return str(error).rsplit(": ", 1)[-1]


def _bad_context(context: str, problem: Exception, file: str | None) -> NotConfigured:
    """Return the error for a context that is missing or incomplete in the kubeconfig."""
    from kubernetes import config

    try:
        contexts, _ = config.list_kube_config_contexts(config_file=file)
    except config.ConfigException:
        return NotConfigured(
            f"context {context}: {problem}", hint="set KUBECONFIG: the kubeconfig has no contexts"
        )

    known = [str(entry["name"]) for entry in contexts]
    words = problem if context in known else "it is not in the kubeconfig"

    return NotConfigured(f"context {context}: {words}", hint=f"the kubeconfig has: {', '.join(known)}")


def _client(context: str) -> Any:
    """Return the official client, configured from the kubeconfig or from our pod. Raises NotConfigured."""
    try:
        from kubernetes import client, config
    except ImportError:
        raise NotConfigured(
            "the Kubernetes client is not installed",
            hint=f"{install_hint('k8s')}   (jobctl render works without it)",
        ) from None

    configuration = client.Configuration()
    # The client looks at the variable once, when it is imported.
    file = os.environ.get("KUBECONFIG") or None
    try:
        # The kubeconfig goes before the pod's account: a notebook's pod has one too, and its user may mean
        # another cluster.
        config.load_kube_config(config_file=file, context=context or None, client_configuration=configuration)
    except config.ConfigException as problem:
        if context:
            raise _bad_context(context, problem, file) from None

        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            if file and not any(map(os.path.exists, file.split(os.pathsep))):
                raise NotConfigured(
                    f"no cluster is configured: KUBECONFIG is {file}, and this file does not exist",
                    hint="set KUBECONFIG to the file of the cluster; the default is ~/.kube/config",
                ) from None

            raise NotConfigured(
                f"no cluster is configured: {problem}", hint="set KUBECONFIG, or choose with --context NAME"
            ) from None
    except Exception as problem:  # the client trusts the file to be YAML of the right form
        reason = " ".join(str(problem).split())
        raise NotConfigured(
            f"kubeconfig {file or '~/.kube/config'} cannot be read: {reason}",
            hint="kubectl config view shows the error",
        ) from None

    return client.ApiClient(configuration)

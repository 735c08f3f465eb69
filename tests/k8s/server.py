"""An API server for the real client to talk to over HTTP, which can be told to misbehave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, create_connection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.k8s import terminal, websocket
from tests.k8s.refusal import Refusal
from tests.k8s.schemas import KINDS
from tests.k8s.store import CLUSTER, Object, Store, has_fields

_OBJECT = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<ns>[^/]+))?/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>log|exec|portforward))?"
)


class Fault:
    """What happens to the next ``times`` requests that ``applies`` to.

    A status; a pause of ``seconds``; a stream that is cut after so many bytes, or stays open and says nothing more
    (``stalls``); a connection that is closed before the request was done (``reset``) or after it (``lost``).
    """

    def __init__(
        self,
        applies: Callable[[str, str], bool] = lambda method, path: True,
        *,
        times: int = 1,
        status: int = 0,
        retry_after: str = "",
        seconds: float = 0.0,
        cut_after: int | None = None,
        reset: bool = False,
        lost: bool = False,
        stalls: bool = False,
    ) -> None:
        self.applies, self.times, self.status, self.retry_after = applies, times, status, retry_after
        self.seconds, self.cut_after, self.reset = seconds, cut_after, reset
        self.lost, self.stalls = lost, stalls


class ApiServer:
    """Started at once on a free port of its own; ``volume`` is what its pods see as /workspace.

    ``certificate``, with its key, makes it speak TLS.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.store = Store()
        self.folder = folder
        self.volume = folder / "volume"
        self.volume.mkdir(parents=True)
        self.tokens = {"good"}
        self.user = "ann"
        """Whom the server takes the holder of any token for."""
        self.rights: set[tuple[str, str, str]] = set()
        """Group, resource and verb of what the user may do; another request is refused as RBAC refuses it."""
        self.cluster_rights: set[tuple[str, str, str]] = set()
        """The same in the whole cluster, for what has no namespace and for lists of all namespaces."""
        self.used: set[tuple[str, str, str]] = set()
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.commands: list[subprocess.Popen[bytes]] = []
        """What was begun in pods; it ends with the server."""
        self.sizes: list[dict[str, int]] = []
        """What terminals said of their size."""
        self.logs: dict[str, list[tuple[str, str]]] = {}
        """By pod uid: time and line of what its container printed."""
        self.open_pods: set[str] = set()
        """uids of pods whose containers still run, so that their logs may grow."""
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._scheme = "http"
        if certificate:
            tls, self._scheme = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "https"
            tls.load_cert_chain(certificate)
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for process in self.commands:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def kubeconfig(self, token: str = "good") -> Path:
        """A kubeconfig whose token is read from a file, as a credential helper would renew it."""
        file = self.folder / "token"
        file.write_text(token)
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"tokenFile": str(file)}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.applies(method, path):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.words = parse_qs(url.query, keep_blank_values=True).get("command", [])
        self.api.requests.append((self.command, self.path))
        size = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(size)) if size else {}
        self.fault = self.api.fault(self.command, self.path)
        if self.fault and self.fault.seconds:
            time.sleep(self.fault.seconds)
        if self.fault and self.fault.reset:
            self.close_connection = True
            return
        try:
            if self.fault and self.fault.status:
                raise Refusal(self.fault.status, "Fault", "as told")
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or token not in self.api.tokens:
                raise Refusal(401, "Unauthorized", "Unauthorized")
            self._route(url.path)
        except Refusal as refusal:
            body = refusal.text.encode() if refusal.text else json.dumps(refusal.status).encode()
            self._send(refusal.code, body, "text/plain" if refusal.text else "application/json")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def _route(self, path: str) -> None:
        store = self.api.store
        if found := re.fullmatch(r"/apis/([^/]+/[^/]+)", path):
            names = [plural for version, plural in store.served if version == found[1]]
            if not names:
                raise Refusal(404, "", "404 page not found\n")
            return self._answer({"kind": "APIResourceList", "resources": [{"name": name} for name in names]})
        if path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":  # which everybody may ask
            return self._answer({**self.body, "status": {"userInfo": {"username": self.api.user}}}, 201)
        if found := re.fullmatch(r"/openapi/v3/apis/([^/]+/[^/]+)", path):  # and this as well
            served = {name: KINDS[name] for name in KINDS if name.startswith(f"{found[1]} ")}
            return self._answer({"openapi": "3.0.0", "components": {"schemas": served}})
        at = _OBJECT.fullmatch(path)
        if not at:
            raise Refusal(404, "", "404 page not found\n")
        version = at["core"] or at["group"]
        plural = at["plural"]
        name = at["name"]
        namespace = at["ns"] or CLUSTER
        self._authorize(version, plural, namespace, name, at["sub"])
        if at["sub"]:
            pod = store.get("v1", "pods", namespace, name)
            return {"log": self._log, "exec": self._exec, "portforward": self._forward}[at["sub"]](pod)
        dry_run = self.query.get("dryRun") == "All"
        if self.command == "POST":
            return self._answer(store.create(version, plural, namespace, self.body, dry_run), 201)
        if self.command == "PATCH" and "apply-patch" in self.headers["Content-Type"]:
            return self._answer(store.apply(version, plural, namespace, self.body, dry_run))
        if self.command == "PATCH":
            return self._answer(store.patch(version, plural, namespace, name, self.body))
        if self.command == "DELETE":
            return self._answer(
                store.delete(
                    version,
                    plural,
                    namespace,
                    name,
                    grace=self.body.get("gracePeriodSeconds"),
                    foreground=self.body.get("propagationPolicy") == "Foreground",
                )
            )
        if name:
            return self._answer(store.get(version, plural, namespace, name))
        if self.query.get("watch") == "true":
            return self._watch(version, plural, namespace)
        with store.lock:  # else a change between the items and their version would never reach a watch
            items, at = (
                store.list_all(version, plural, namespace, self.query.get("labelSelector", "")),
                store.version,
            )
        if plural == "pods" and namespace == CLUSTER:
            items = [thing for key, thing in store.objects.items() if key[1] == "pods"]
        fields = self.query.get("fieldSelector", "")
        return self._page([item for item in items if has_fields(item, fields)], at)

    def _authorize(
        self, version: str, plural: str, namespace: str, name: str | None, sub: str | None
    ) -> None:
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get" if name else "list"}[
            self.command
        ]
        verbs = {"watch" if self.query.get("watch") == "true" else verb}
        if sub in ("exec", "portforward"):  # older servers ask for get, newer for create as well
            verbs = {"get", "create"}
        if verb == "patch" and (version, plural, namespace, name) not in self.api.store.objects:
            verbs.add("create")  # server-side apply makes what is not there
        group, resource = version.rpartition("/")[0], f"{plural}/{sub}" if sub else plural
        for verb in sorted(verbs):
            self.api.used.add((group, resource, verb))
            # A namespace is a part of itself, as far as rights go.
            rights = self.api.rights if namespace or plural == "namespaces" else self.api.cluster_rights
            if (group, resource, verb) not in rights:
                raise Refusal(
                    403, "Forbidden", f'{plural} is forbidden: User "{self.api.user}" cannot {verb} '
                    f'resource "{resource}" in API group "{group}" in the namespace "{namespace}"',
                )  # fmt: skip

    def _page(self, items: list[Object], version: int) -> None:
        limit, start = int(self.query.get("limit", 500)), int(self.query.get("continue", 0))
        rest = {"continue": str(start + limit)} if start + limit < len(items) else {}
        rest["resourceVersion"] = str(version)
        self._answer({"kind": "List", "metadata": rest, "items": items[start : start + limit]})

    def _answer(self, body: Object, status: int = 200) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        if self.fault and self.fault.lost:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.fault and self.fault.retry_after:
            self.send_header("Retry-After", self.fault.retry_after)
        self.end_headers()
        self.wfile.write(body)

    # ---- watches

    def _watch(self, version: str, plural: str, namespace: str) -> None:
        """Changes since ``resourceVersion`` as they come, until ``timeoutSeconds`` have passed."""
        seconds = float(self.query.get("timeoutSeconds", 60))
        since, deadline = int(self.query["resourceVersion"]), time.monotonic() + seconds
        self._begin_stream()
        while time.monotonic() < deadline:
            changes = self.api.store.changes(
                version,
                plural,
                namespace,
                self.query.get("labelSelector", ""),
                since,
                deadline - time.monotonic(),
            )
            for at, type_, thing in changes:
                since = at
                if not self._stream(json.dumps({"type": type_, "object": thing}).encode() + b"\n"):
                    return
        self.wfile.write(b"0\r\n\r\n")

    # ---- streams

    def _begin_stream(self) -> None:
        self._sent = 0
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _stream(self, data: bytes) -> bool:
        """Sends a piece; False when the stream was to be cut here."""
        cut = self.fault.cut_after if self.fault else None
        whole = cut is None or self._sent + len(data) <= cut
        if not whole:
            data = data[: max(0, cut - self._sent)]
        if data:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
            self._sent += len(data)
        if not whole:
            self.close_connection = True
            if self.fault.stalls:
                time.sleep(30)
            self.connection.shutdown(2)
        return whole

    # ---- logs

    def _log(self, pod: Object) -> None:
        """The lines since ``sinceTime``, to the second as the real one does; with ``follow`` those to come."""
        uid = pod["metadata"]["uid"]
        if uid not in self.api.logs:
            raise Refusal(
                400, "BadRequest", f'container "{self.query.get("container")}" in pod is waiting to start'
            )
        since, follow = self.query.get("sinceTime", "")[:19], self.query.get("follow") == "true"
        if "limitBytes" in self.query:
            text = "".join(f"{line}\n" for _, line in list(self.api.logs[uid]))
            self._send(200, text.encode()[: int(self.query["limitBytes"])], "text/plain")
            return
        self._begin_stream()
        log, at = self.api.logs[uid], 0
        while True:
            # A container that is started again has a log of its own, and this one has ended.
            growing = uid in self.api.open_pods and self.api.logs[uid] is log
            lines = log[at:]
            for stamp, line in lines:
                if stamp[:19] >= since and not self._stream(f"{stamp} {line}\n".encode()):
                    return
            at += len(lines)
            if not (follow and growing):
                break
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")

    # ---- ports of pods

    def _forward(self, pod: Object) -> None:
        """A port of the pod is one of this machine."""
        self.close_connection = True
        socket = websocket.accept(self)
        number = int(self.query["ports"])
        for channel in (0, 1):
            socket.send(channel, struct.pack("<H", number))
        try:
            there = create_connection(("127.0.0.1", number))
        except OSError as error:
            socket.send(1, f"error forwarding port {number}: {error}".encode())
            socket.close()
            return

        def copy_there() -> None:
            socket.copy_input(there.makefile("wb"))
            with contextlib.suppress(OSError):
                there.shutdown(SHUT_RDWR)

        threading.Thread(target=copy_there, daemon=True).start()
        if socket.copy_output(there.makefile("rb"), 0, None):
            socket.close()

    # ---- commands in pods

    def _exec(self, pod: Object) -> None:
        """Runs the command for real, with the volume's folder for /workspace."""
        self.close_connection = True
        socket = websocket.accept(self)
        socket.sizes = self.api.sizes
        volume, own = str(self.api.volume), self.api.folder / pod["metadata"]["uid"] / "tmp"
        words = [word.replace("/workspace", volume) for word in self.words]
        environment = {**os.environ, "JOBCTL_ROOT": volume, "TMPDIR": str(own)}
        if self.query.get("tty") == "true":
            process = terminal.start(words, environment, socket)
        else:
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self.api.commands.append(process)
        cut = self.fault.cut_after if self.fault else None
        threading.Thread(target=socket.copy_input, args=(process.stdin,), daemon=True).start()
        errors = threading.Thread(
            target=socket.copy_output, args=(process.stderr or io.BytesIO(), 2, None), daemon=True
        )
        errors.start()
        if not socket.copy_output(process.stdout, 1, cut):
            os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):  # the client has gone already
                self.connection.shutdown(2)
            return
        errors.join()
        code = process.wait()
        code = code if code >= 0 else 128 - code
        causes = {"details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}
        verdict = (
            {"status": "Success"}
            if code == 0
            else {"status": "Failure", "message": f"exit code {code}", **causes}
        )
        socket.send(3, json.dumps(verdict).encode())
        socket.close()

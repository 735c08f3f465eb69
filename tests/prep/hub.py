"""A hub on this machine: what huggingface_hub asks for, with connections that break where a test wants them to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REQUEST = re.compile(r"/(?:datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Hub:
    """What is served, and how: ``cut`` names how many more times a file's connection breaks half-way."""

    files: dict[str, bytes]
    gated: bool = False
    token: str = ""
    cut: dict[str, int] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def content(self, path: str) -> bytes:
        """What is really sent for a file, which the listing may not know."""
        return self.served.get(path, self.files[path])


def listing(hub: Hub, name: str) -> dict[str, object]:
    """As the API answers with blobs=True; files called .md are kept without LFS."""
    siblings = []
    for path, data in hub.files.items():
        digest = hashlib.sha256(data).hexdigest()
        lfs = (
            {} if path.endswith(".md") else {"lfs": {"sha256": digest, "size": len(data), "pointerSize": 130}}
        )
        siblings.append({"rfilename": path, "size": len(data), "blobId": digest[:40], **lfs})
    return {"id": name, "sha": COMMIT, "private": False, "gated": hub.gated, "tags": [], "siblings": siblings}


class Handler(BaseHTTPRequestHandler):
    """Answers from ``self.hub``, which the server's own class of handlers carries."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def allowed(self) -> bool:
        if not self.hub.gated or self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        self.refuse(403, "GatedRepo")
        return False

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if not self.allowed():
            return
        if path.startswith("/api/"):
            self.answer(
                json.dumps(listing(self.hub, "/".join(path.split("/")[3:5]))).encode(), "application/json"
            )
            return
        found = REQUEST.fullmatch(path)
        if not found or found["path"] not in self.hub.files:
            self.refuse(404, "EntryNotFound")
            return
        self.file(found["path"])

    def answer(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def file(self, path: str) -> None:
        data, begin = self.hub.content(path), 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            begin = int(asked[1])
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha256(self.hub.files[path]).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut.get(path, 0):
            self.hub.cut[path] -= 1
            self.wfile.write(data[begin : begin + (len(data) - begin) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[begin:])


@contextlib.contextmanager
def running(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub with these files in any repository that it is asked for."""
    hub = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """What makes huggingface_hub of a subprocess ask this hub, and keep its own files in ``home``."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip

"""Reaching the volume: a command in a pod, and a pod that lives only for that."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import msgspec
import yaml

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import render_template
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.names import COMPONENT, MANAGED_BY, MAX_NAME, object_name
from jobctl.k8s.pods import read_pod
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import POD

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

LIFETIME_SECONDS = 6 * 3600
START_SECONDS = 1800.0
"""How long a pod may take to run: its image is as large as the job's, and its node may not have it."""
SILENCE_SECONDS = 120.0
"""How long a command may say nothing before its connection is taken for dead."""
BEAT = "while sleep 15 >/dev/null 2>&1; do printf '\\0' >&2; done & trap \"kill $!\" EXIT; "
"""Bash that says something all the while, for commands that work in silence: summing a large file takes minutes."""
POLL_SECONDS = 0.5
OUTPUT_BYTES = 1 << 20
"""What a short command may say."""
VERDICT_BYTES = 1 << 16
_INPUT, _OUTPUT, _ERRORS, _VERDICT = range(4)


class _Verdict(msgspec.Struct):
    """How a command ended, as the API server says in a Status object."""

    status: str = ""
    message: str = ""


class Command:
    """A command that runs in a pod, its output as it comes.

    Raises Refused when the pod may not be entered, ConnectionError when the connection fails.
    """

    def __init__(self, api: Api, namespace: str, pod: str, container: str, words: list[str]) -> None:
        self._pod = pod
        self._socket = api.execute(namespace, pod, container, words)

    def write(self, data: bytes) -> None:
        """Send ``data`` to its input. Raises ConnectionError when the connection fails."""
        from websocket import WebSocketException

        try:
            for start in range(0, len(data), 32768):
                self._socket.write_channel(_INPUT, data[start : start + 32768])
        except (WebSocketException, OSError) as error:
            raise ConnectionError(f"{self._pod}: {error}") from None

    def output(self) -> Generator[bytes, None, None]:
        """Its standard output. Raises UserError when it fails, ConnectionError when the connection does.

        Frames are read one by one: client 37 would gather whatever comes before it returned any of it, which of a
        checkpoint is more than memory, and 36 does not see those that TLS has read ahead.
        """
        from websocket import ABNF, WebSocketException

        said = verdict = b""
        socket = self._socket.sock
        socket.settimeout(SILENCE_SECONDS)

        try:
            while True:
                kind, frame = socket.recv_data_frame(True)
                if kind == ABNF.OPCODE_CLOSE:
                    break

                if kind not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or len(frame.data) < 2:
                    continue

                channel = frame.data[0]
                piece = frame.data[1:]
                if channel == _OUTPUT:
                    yield piece
                elif channel == _ERRORS:
                    said = (said + piece.replace(b"\0", b""))[-4000:]
                elif channel == _VERDICT:
                    verdict = (verdict + piece)[:VERDICT_BYTES]
        except (WebSocketException, OSError) as error:
            if not verdict:
                raise ConnectionError(f"{self._pod}: {error}") from None
        finally:
            self._socket.close()

        if not verdict:
            raise ConnectionError(f"{self._pod}: the stream was cut")

        try:
            answer = msgspec.json.decode(verdict, type=_Verdict)
        except msgspec.MsgspecError:
            raise ConnectionError(f"{self._pod}: the stream ended with no verdict") from None

        if answer.status != "Success":
            why = said.decode("utf-8", "replace").strip() or answer.message
            raise UserError(f"in pod {self._pod}: {why[-1000:]}", code=1)

    def finish(self, most: int = OUTPUT_BYTES) -> bytes:
        """Return all of its output. Raises UserError for more than ``most`` bytes."""
        said = bytearray()
        with contextlib.closing(self.output()) as output:
            for piece in output:
                said += piece
                if len(said) > most:
                    raise UserError(f"{self._pod} says more than {most} bytes", code=1)

        return bytes(said)


class VolumePod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that mounts the volume and does nothing, so that commands in it reach the files of ``run``."""

    site: Site
    run: str
    image: str
    writes: bool = False
    """Whether the volume is mounted for writing."""

    @property
    def container(self) -> str:
        """The name of its container, and the component that its label names."""
        return "writer" if self.writes else "reader"


@contextlib.contextmanager
def running(api: Api, wanted: VolumePod, tell: Callable[[str], None]) -> Iterator[str]:
    """Make the pod, and yield its name when it runs; it is gone when the block is left."""
    site = wanted.site
    name = f"{object_name(wanted.run)[:MAX_NAME]}-{wanted.container}-{secrets.token_hex(3)}"
    context = {
        "name": name,
        "site": site,
        "image": wanted.image,
        "root": ROOT,
        "lifetime": LIFETIME_SECONDS,
        "container": wanted.container,
        "writes": wanted.writes,
        "labels": {
            MANAGED_BY: "jobctl",
            "app.kubernetes.io/name": "jobctl",
            COMPONENT: wanted.container,
        },
    }
    try:
        api.create(POD, yaml.safe_load(render_template("kubernetes/volume_pod.yaml.j2", context)))
    except Refused as refusal:
        if refusal.status != 409:  # it is there: our own, and the answer was lost
            raise

    try:
        _wait_until_running(api, site.kubernetes.namespace, name, tell)
        yield name
    finally:
        try:
            api.delete(POD, site.kubernetes.namespace, name, grace_seconds=0)
        except UserError as problem:
            tell(f"{problem.message}; it ends by itself in {LIFETIME_SECONDS // 3600} hours")


def _wait_until_running(api: Api, namespace: str, name: str, tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    told = ""
    while True:
        thing = api.get(POD, namespace, name)
        if thing is None:
            raise UserError(f"pod {name} was deleted before it ran", code=1)

        pod = read_pod(thing)
        if pod.running:
            return

        if pod.exit_code is not None or time.monotonic() > deadline:
            raise UserError(f"pod {name} does not run: {pod.last_words or pod.waiting or pod.phase}", code=1)

        if (why := pod.waiting or pod.phase) != told:
            told = why
            tell(f"waiting for pod {name}: {told}")

        time.sleep(POLL_SECONDS)

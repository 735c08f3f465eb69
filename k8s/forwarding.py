"""A port of a pod, served on this host: each connection here is a websocket there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.k8s import volume
from jobctl.k8s.commands import BEAT, Command, await_input, read_frame
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.ownership import tell
from jobctl.k8s.volume import VolumePod

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

PORT = 6006
"""The port of TensorBoard in its pod."""
DATA, TROUBLE = range(2)
"""The channels of a port. The first frame of each is the port's number."""
NUMBER_BYTES = 2
PIECE_BYTES = 65536
SILENCE_SECONDS = 3600.0
"""Seconds for which a connection may carry nothing."""
WORDS_BYTES = 4000
_TENSORBOARD = BEAT + (
    "export HOME=${TMPDIR:-/tmp}; "
    '"${3:-${JOBCTL_PYTHON:-python3}}" -m tensorboard.main --logdir="$1" --host=127.0.0.1 --port="$2" 2>&1'
)
_SERVES = b"http://"
"""The words that TensorBoard prints when it is ready."""


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a pod."""

    namespace: str
    pod: str
    number: int


def tensorboard(api: Api, run: Run, local_port: int) -> None:
    """Show a run's figures at ``local_port`` until the caller is interrupted.

    Raises UserError where no pod runs, TensorBoard does not begin or ends, or the port is taken.
    """
    site = run.record.spec.site
    namespace = site.kubernetes.namespace
    wanted = VolumePod(site=site, run=run.path.name, image=run.record.spec.image)
    folder = layout.tensorboard_dir(Path(ROOT) / "runs" / run.path.name)
    # The port first: where it is taken, no pod is made in vain.
    with _listening(local_port) as listener, volume.running(api, wanted, tell) as pod:
        words = ["bash", "-c", _TENSORBOARD, "tensorboard", str(folder), str(PORT), site.python]
        command = Command(api, namespace, pod, wanted.container, words)

        def serve() -> None:
            port = Port(namespace=namespace, pod=pod, number=PORT)
            # Not before TensorBoard listens: a browser that is refused does not try again.
            threading.Thread(target=_serve, args=(api, port, listener), daemon=True).start()
            tell(f"TensorBoard of {run.name}: {_address(listener)} (Ctrl-C ends it)")

        raise UserError(f"TensorBoard ended: {_words_of(command, serve)}", code=1)


def _words_of(command: Command, serve: Callable[[], None]) -> str:
    """Call ``serve`` when TensorBoard is ready. Return its last lines when it has ended."""
    said = b""
    serving = False
    try:
        for piece in command.output():
            # TensorBoard may run for days, and only its last words give a reason.
            said = (said + piece)[-WORDS_BYTES:]
            if not serving and _SERVES in said:
                serving = True
                serve()
    except (UserError, ConnectionError) as error:
        # TensorBoard's own words say more than those of the connection.
        said = said or str(error).encode()

    return said.decode("utf-8", "replace").strip()[-500:]


def forward(api: Api, run: Run, pod: str, number: int, local_port: int) -> None:
    """Serve a port of a pod at ``local_port`` until the caller is interrupted."""
    port = Port(namespace=run.record.spec.site.kubernetes.namespace, pod=pod, number=number)
    with _listening(local_port) as listener:
        tell(f"port {number} of pod {pod}: {_address(listener)} (Ctrl-C ends it)")
        _serve(api, port, listener)


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    try:
        # For this host alone, since whoever reaches the port is in the pod.
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(
            f"port {port} of this host: {error.strerror}", hint="--port 0 chooses a free port", code=1
        ) from None

    with listener:
        yield listener


def _address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def _serve(api: Api, port: Port, listener: socket.socket) -> None:
    """Carry each connection until the listener is closed."""
    while True:
        try:
            here, _ = listener.accept()
        except OSError:
            return

        threading.Thread(target=_carry, args=(api, port, here), daemon=True).start()


def _carry(api: Api, port: Port, here: socket.socket) -> None:
    """Carry one connection. If that fails, tell the user the reason."""
    from websocket import WebSocketException

    with here:
        try:
            there = api.forward(port.namespace, port.pod, port.number)
            with contextlib.closing(there):
                _relay(there, here)
        except UserError as error:
            # One connection that fails must not end the others.
            tell(error.message)
        except (WebSocketException, OSError) as error:
            tell(f"port {port.number} of pod {port.pod}: {error}")


def _relay(there: Any, here: socket.socket) -> None:
    """Carry bytes in both directions until one side ends."""
    begun: set[int] = set()
    there.sock.settimeout(SILENCE_SECONDS)

    while True:
        has_frame, has_data = await_input(there.sock, here.fileno(), SILENCE_SECONDS)
        if not has_frame and not has_data:
            return

        if has_data:
            data = here.recv(PIECE_BYTES)
            if not data:
                return

            there.write_channel(DATA, data)

        if has_frame:
            frame = read_frame(there.sock)
            if frame is None:
                return

            channel, piece = frame
            if channel in (DATA, TROUBLE) and channel not in begun:
                begun.add(channel)
                piece = piece[NUMBER_BYTES:]

            if channel == DATA:
                here.sendall(piece)
            elif channel == TROUBLE and piece:
                tell(piece.decode("utf-8", "replace").strip())

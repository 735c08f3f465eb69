"""A command in a pod: its input, its output as it arrives, and its end."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import decode_json

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

SILENCE_SECONDS = 120.0
"""Seconds without output after which the connection of a command counts as dead."""
BEAT = "while sleep 15 >/dev/null 2>&1; do printf '\\0' >&2; done & trap \"kill $!\" EXIT; "
"""Bash that writes something regularly, for commands that work in silence for minutes."""
OUTPUT_BYTES = 1 << 20
"""The most bytes that a short command may print."""
VERDICT_BYTES = 1 << 16
NOTHING, INPUT, OUTPUT, ERRORS, VERDICT, SIZE = range(-1, 5)
"""The channels of a command's websocket; each frame begins with the number of its own."""


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []


class Verdict(msgspec.Struct):
    """The end of a command, from the Status object of the API server."""

    status: str = ""
    message: str = ""
    details: _Details | None = None

    @property
    def succeeded(self) -> bool:
        """Return whether the command exited with 0."""
        return self.status == "Success"

    @property
    def exit_code(self) -> int | None:
        """Return its exit code. It is None if the command did not begin; then the message says why."""
        if self.succeeded:
            return 0

        # The API server gives the exit code as the text of a cause.
        causes = self.details.causes if self.details else []
        codes = [cause.message for cause in causes if cause.reason == "ExitCode"]
        return int(codes[0]) if codes and codes[0].isdigit() else None


def parse_verdict(text: bytes, pod: str) -> Verdict:
    """Read the status of a command. Raises ConnectionError if the stream ended without one."""
    if not text:
        raise ConnectionError(f"{pod}: the stream was cut")

    try:
        return decode_json(text, Verdict)
    except msgspec.MsgspecError:
        raise ConnectionError(f"{pod}: the stream ended without the command's exit code") from None


def read_frame(socket: Any) -> tuple[int, bytes] | None:
    """Return the channel and the bytes of the next frame of a websocket; None at its end.

    The channel of a frame that carries nothing is ``NOTHING``. Read frames one by one: client 37 collects the
    whole stream before it returns, and a checkpoint is larger than memory. Client 36 misses frames that TLS has
    already read.
    """
    from websocket import ABNF

    kind, frame = socket.recv_data_frame(True)
    if kind == ABNF.OPCODE_CLOSE:
        return None

    # A frame of nothing but the channel's number carries nothing.
    if kind not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or len(frame.data) < 2:
        return NOTHING, b""

    return frame.data[0], frame.data[1:]


def await_input(socket: Any, other: int | None, seconds: float) -> tuple[bool, bool]:
    """Wait up to ``seconds``. Return whether a frame has arrived, and whether file ``other`` can be read."""
    pending = getattr(socket.sock, "pending", None)
    # What TLS has read ahead no longer waits in the file.
    is_ahead = pending is not None and pending() > 0
    files = [socket.sock.fileno(), *([] if other is None else [other])]
    readable, _, _ = select.select(files, [], [], 0.0 if is_ahead else seconds)

    return is_ahead or files[0] in readable, other in readable


class Command:
    """A command that runs in a pod.

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
                self._socket.write_channel(INPUT, data[start : start + 32768])
        except (WebSocketException, OSError) as error:
            raise ConnectionError(f"{self._pod}: {error}") from None

    def output(self) -> Generator[bytes, None, None]:
        """Yield its output. Raises UserError if it fails, ConnectionError if the connection fails."""
        from websocket import WebSocketException

        said = b""
        verdict = b""
        socket = self._socket.sock
        socket.settimeout(SILENCE_SECONDS)

        try:
            while (frame := read_frame(socket)) is not None:
                channel, piece = frame
                if channel == OUTPUT:
                    yield piece
                elif channel == ERRORS:
                    # The zero bytes are BEAT's, and no words of the command.
                    said = (said + piece.replace(b"\0", b""))[-4000:]
                elif channel == VERDICT:
                    verdict = (verdict + piece)[:VERDICT_BYTES]
        except (WebSocketException, OSError) as error:
            # With the verdict the command has ended, so a connection that breaks after it loses nothing.
            if not verdict:
                raise ConnectionError(f"{self._pod}: {error}") from None
        finally:
            self._socket.close()

        answer = parse_verdict(verdict, self._pod)
        if not answer.succeeded:
            why = said.decode("utf-8", "replace").strip() or answer.message
            raise UserError(f"in pod {self._pod}: {why[-1000:]}", code=1)

    def finish(self, most: int = OUTPUT_BYTES) -> bytes:
        """Return all of its output. Raises UserError for more than ``most`` bytes."""
        said = bytearray()
        with contextlib.closing(self.output()) as output:
            for piece in output:
                said += piece
                if len(said) > most:
                    raise UserError(f"the command in pod {self._pod} prints more than {most} bytes", code=1)

        return bytes(said)

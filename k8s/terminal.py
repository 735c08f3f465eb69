"""A command in a pod whose input and output are this terminal's."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.k8s.commands import ERRORS, INPUT, OUTPUT, SIZE, VERDICT, await_input, parse_verdict, read_frame
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.pods import Pod

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

LOOK_SECONDS = 0.5
"""Seconds between two checks of the terminal's size."""
PING_SECONDS = 30.0
"""Seconds between two pings while nobody types. Without them a proxy would close the connection."""
_SHELL = 'export HOME=${TMPDIR:-/tmp} TERM=$2; cd "$1" && exec bash'
_WITHOUT_INPUT = 'exec "$@" </dev/null'


def enter(api: Api, run: Run, pod: Pod, command: Sequence[str]) -> int:
    """Run ``command``, or a shell for none, in ``pod``; its exit code.

    Raises UserError where it cannot begin, and when the connection breaks.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not command and not terminal:
        raise UserError("a shell needs a terminal", hint="or a command: jobctl shell RUN -- COMMAND")

    namespace = run.record.spec.site.kubernetes.namespace
    words = _words(run, command, terminal)
    try:
        connection = api.execute(namespace, pod.name, pod.container, words, terminal=terminal)
        try:
            with _raw(sys.stdin.fileno()) if terminal else contextlib.nullcontext():
                verdict = _relay(connection, sys.stdin.fileno() if terminal else None)
        finally:
            connection.close()

        answer = parse_verdict(verdict, pod.name)
    except ConnectionError as error:
        raise UserError(
            f"the connection to the pod broke: {error}", hint=f"jobctl status {run.name}", code=1
        ) from None

    if answer.exit_code is None:
        raise UserError(f"in pod {pod.name}: {answer.message}", code=1)
    return answer.exit_code


def _words(run: Run, command: Sequence[str], terminal: bool) -> list[str]:
    if not command:
        folder = f"{ROOT}/runs/{run.path.name}"
        return ["bash", "-c", _SHELL, "shell", folder, os.environ.get("TERM") or "xterm"]

    return [*command] if terminal else ["bash", "-c", _WITHOUT_INPUT, "shell", *command]


@contextlib.contextmanager
def _raw(file: int) -> Iterator[None]:
    """Pass each key on as it is typed, Ctrl-C too; what was typed before is kept."""
    before = termios.tcgetattr(file)
    tty.setraw(file, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _relay(connection: Any, keys: int | None) -> bytes:
    """Carry keys there and output here until the command ends; what the server says of its end.

    Raises ConnectionError when the connection fails.
    """
    from websocket import WebSocketException

    socket = connection.sock
    # A shell may be silent for hours.
    socket.settimeout(None)
    size = None
    last_ping = time.monotonic()

    try:
        while True:
            if keys is not None and size != (now := os.get_terminal_size(keys)):
                size = now
                words = json.dumps({"Width": size.columns, "Height": size.lines})
                connection.write_channel(SIZE, words.encode())

            has_frame, has_key = await_input(socket, keys, LOOK_SECONDS)
            if has_key and keys is not None:
                typed = os.read(keys, 4096)
                connection.write_channel(INPUT, typed)
                # The terminal was closed.
                keys = keys if typed else None

            if time.monotonic() - last_ping > PING_SECONDS:
                socket.ping()
                last_ping = time.monotonic()

            if has_frame:
                frame = read_frame(socket)
                if frame is None:
                    return b""

                channel, piece = frame
                if channel == VERDICT:
                    return piece

                _show(channel, piece)
    except (WebSocketException, OSError) as error:
        raise ConnectionError(str(error)) from None


def _show(channel: int, piece: bytes) -> None:
    streams = {OUTPUT: sys.stdout.buffer, ERRORS: sys.stderr.buffer}
    if channel in streams:
        streams[channel].write(piece)
        streams[channel].flush()

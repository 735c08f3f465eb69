"""A command whose input and output are one terminal, as a kubelet starts it for ``exec`` with ``tty``."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import struct
import subprocess
import termios

from tests.k8s.websocket import Socket


class _Keyboard(io.RawIOBase):
    """The side of a terminal that people sit at. Its end is the end of the command."""

    def __init__(self, file: int) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            piece = os.read(self._file, len(buffer))
        except OSError:  # nobody has the other side open any more
            return 0
        buffer[: len(piece)] = piece
        return len(piece)

    def read1(self, size: int) -> bytes:
        return self.read(size) or b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return os.write(self._file, data)


def sit_down() -> None:
    """Make standard input the terminal of this process, which begins a session. Ctrl-C counts there again."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Workers of a parallel test run ignore it, and so would all that they start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(words: list[str], environment: dict[str, str], socket: Socket) -> subprocess.Popen[bytes]:
    """Start ``words`` on a terminal of its own, whose size is what the client says."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=sit_down,
    )
    os.close(theirs)

    def resize(columns: int, lines: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    socket.resize = resize
    keyboard = _Keyboard(ours)
    process.stdin = keyboard  # type: ignore[assignment]
    process.stdout = keyboard  # type: ignore[assignment]
    return process

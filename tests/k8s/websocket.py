"""The server's half of RFC 6455, as far as ``exec`` needs it: a channel's number before the bytes of each message."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import IO

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 2, 8


def accept(handler: BaseHTTPRequestHandler) -> Socket:
    key = handler.headers["Sec-WebSocket-Key"].encode()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode())
    handler.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
    handler.end_headers()
    return Socket(handler)


class Socket:
    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._in, self._out, self._lock = handler.rfile, handler.wfile, threading.Lock()
        self.sizes: list[dict[str, int]] = []
        self.resize: Callable[[int, int], None] = lambda columns, lines: None

    def send(self, channel: int, data: bytes) -> None:
        self._frame(_BINARY, bytes([channel]) + data)

    def close(self) -> None:
        self._frame(_CLOSE, struct.pack(">H", 1000))

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([size]) if size < 126 else struct.pack(">BH", 126, size) if size < 65536 else b""
        length = length or struct.pack(">BQ", 127, size)
        with self._lock:
            self._out.write(bytes([0x80 | opcode]) + length + payload)
            self._out.flush()

    def copy_input(self, into: IO[bytes]) -> None:
        """What the client sends on channel 0, until it goes."""
        try:
            while (payload := self._read()) is not None:
                if payload[:1] == b"\0":
                    into.write(payload[1:])
                    into.flush()
                elif payload[:1] == b"\4":
                    size = json.loads(payload[1:])
                    self.sizes.append(size)
                    self.resize(size["Width"], size["Height"])
        except (OSError, ValueError, struct.error):
            pass

    def _read(self) -> bytes | None:
        head = self._in.read(2)
        if len(head) < 2 or head[0] & 0x0F == _CLOSE:
            return None
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack(">H", self._in.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self._in.read(8))[0]
        mask = self._in.read(4)
        return bytes(byte ^ mask[i % 4] for i, byte in enumerate(self._in.read(size)))

    def copy_output(self, source: IO[bytes], channel: int, cut_after: int | None) -> bool:
        """All of ``source``; False when it was cut after that many bytes, or the client has gone."""
        sent = 0
        try:
            while piece := source.read1(65536):  # type: ignore[attr-defined]
                if cut_after is not None and sent + len(piece) > cut_after:
                    self.send(channel, piece[: cut_after - sent])
                    return False
                self.send(channel, piece)
                sent += len(piece)
        except (OSError, ValueError):  # its connection is closed, or the file on it
            return False
        return True

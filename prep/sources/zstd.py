"""The content of Zstandard files, and the end of their last frame."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, cast

import zstandard

AHEAD = 1 << 18
"""Bytes for one read of the compressed file."""
LARGEST_WINDOW = 1 << 31
"""The largest window that a Zstandard frame may ask for, in bytes. ``zstd --long=31`` writes this much.

A frame takes the memory of its own window. Without ``--long`` that is at most 8 MB.
"""
SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes 2 to 4 of a frame that Zstandard and LZ4 skip."""
REPEATED = 1
"""The type of a block that holds one byte, which is repeated."""


class Frames:
    """Follow the blocks of frames while their bytes pass, to know if the last is whole (RFC 8878, section 3.1).

    Only headers are read. The decompressor checks the bytes themselves.
    """

    def __init__(self) -> None:
        self._skip = 0
        self._header = b""
        self._size = 4
        self._step: Callable[[bytes], None] = self._magic
        self._has_checksum = False

    @property
    def is_whole(self) -> bool:
        """Return True between two frames, and at the end of the last one."""
        return self._step == self._magic and not self._skip and not self._header

    def see(self, data: bytes) -> None:
        """Follow the next bytes of the file."""
        place = 0
        while place < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - place)
                self._skip -= skipped
                place += skipped
                continue

            part = data[place : place + self._size - len(self._header)]
            self._header += part
            place += len(part)
            if len(self._header) == self._size:
                header = self._header
                self._header = b""
                self._step(header)

    def _then(self, step: Callable[[bytes], None], size: int, skip: int = 0) -> None:
        """Read a header of ``size`` bytes next, after ``skip`` others."""
        self._step = step
        self._size = size
        self._skip = skip

    def _magic(self, header: bytes) -> None:
        if header[1:] == SKIPPABLE:
            self._then(self._skippable, 4)
        else:
            self._then(self._descriptor, 1)

    def _skippable(self, header: bytes) -> None:
        self._then(self._magic, 4, int.from_bytes(header, "little"))

    def _descriptor(self, header: bytes) -> None:
        [flags] = header
        is_single = flags >> 5 & 1
        # Two bits give the size of the content's length, two others that of the dictionary's id.
        content_size = (is_single, 2, 4, 8)[flags >> 6]
        dictionary = (0, 1, 2, 4)[flags & 3]
        self._has_checksum = bool(flags & 4)
        # A frame of a single segment has no byte for its window.
        self._then(self._block, 3, (1 - is_single) + dictionary + content_size)

    def _block(self, header: bytes) -> None:
        number = int.from_bytes(header, "little")
        # Bits 1 and 2 are the type, the bits above them the size. A repeated byte is stored once.
        size = 1 if number >> 1 & 3 == REPEATED else number >> 3
        # Bit 0 marks the last block, which a checksum of four bytes may follow.
        if number & 1:
            self._then(self._magic, 4, size + 4 * self._has_checksum)
        else:
            self._then(self._block, 3, size)


class _Watched:
    """A file whose frames are followed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = io.BufferedReader(cast(io.RawIOBase, file), AHEAD)
        self.frames = Frames()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.frames.see(data)
        return data


class ZstdFrames:
    """The content of a file of Zstandard frames.

    Unlike the library's reader, it raises if the last frame is cut.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Watched(file)
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        # Some packers write many frames one after the other.
        self._reader = decompressor.stream_reader(cast(BinaryIO, self._file), AHEAD, read_across_frames=True)

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or fewer at the end."""
        data: bytes = self._reader.read(size)
        if len(data) < size and not self._file.frames.is_whole:
            raise EOFError("it ends inside a Zstandard frame")

        return data

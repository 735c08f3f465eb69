"""Source files as streams of bytes. A read that fails for a moment is repeated, and all bytes are hashed."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import retry
from jobctl.prep.sources.zstd import LARGEST_WINDOW, SKIPPABLE, ZstdFrames

TRANSIENT = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.ESHUTDOWN,
    errno.EREMOTEIO,
}
"""Errors of a network file system that is away for a moment."""
TRIES = 6
"""Attempts of a read. With the pauses between them they wait for half a minute."""
CHUNK = 1 << 20
"""Bytes for one read of a file that is only hashed."""
PAUSE = 1.0
"""Seconds before the second attempt. Each further pause is twice as long."""


def retried(action: Callable[[], Any], again: Callable[[], None] = lambda: None) -> Any:
    """Return the result of ``action``.

    After a transient OSError, pause, call ``again``, and repeat the action.
    """

    def is_transient(error: Exception) -> bool:
        return isinstance(error, OSError) and error.errno in TRANSIENT

    return retry(action, is_transient, tries=TRIES, first_pause=PAUSE, prepare=again)


class CheckedFile(io.RawIOBase):
    """A file with the SHA-256 of the bytes read since it was opened or moved.

    ``seen`` gets the number of bytes of every read.
    """

    def __init__(self, path: Path, seen: Callable[[int], None] = lambda size: None) -> None:
        super().__init__()
        self.path = path
        self._seen = seen
        self._position = 0
        self._digest = hashlib.sha256()
        self._first = 0
        self._last = sys.maxsize
        self._file: BinaryIO = retried(self._open)

    def _open(self) -> BinaryIO:
        # Without a buffer: after a failure the next read begins where the last one ended.
        return open(self.path, "rb", buffering=0)

    def _reopen(self) -> None:
        # A handle that was open during a failure of the server often stays stale (ESTALE).
        self._file.close()
        self._file = self._open()
        self._file.seek(self._position)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(retried(lambda: cast(io.RawIOBase, self._file).readinto(buffer), self._reopen))
        begin = max(self._first - self._position, 0)
        # Only the bytes between the bounds, which may begin or end inside this read.
        self._digest.update(memoryview(buffer)[begin : min(count, max(self._last - self._position, 0))])
        self._position += count
        self._seen(count)
        return count

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Continue at ``offset``. The checksum begins anew there."""
        self._position = int(retried(lambda: self._file.seek(offset, whence), self._reopen))
        self._digest = hashlib.sha256()
        return self._position

    def hash_between(self, start: int, stop: int) -> None:
        """Take only bytes [start, stop) into the checksum, from the next seek on."""
        self._first = start
        self._last = stop

    def read_on(self) -> None:
        """Read the rest of the file."""
        buffer = bytearray(CHUNK)
        while self.readinto(buffer):
            pass

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a whole file. Raises OSError."""
    with CheckedFile(path) as file:
        file.read_on()
        return file.sha256


MAGIC = {
    ".zst": (b"\x28\xb5\x2f\xfd",),
    ".zstd": (b"\x28\xb5\x2f\xfd",),
    ".gz": (b"\x1f\x8b",),
    ".xz": (b"\xfd7zXZ\0", b"\x5d\0\0"),
    ".bz2": (b"BZh",),
    ".lz4": (b"\x04\x22\x4d\x18",),
}
"""The first bytes of a packed file. The older form of LZMA is read as .xz, too."""


def check_packed(path: Path, suffix: str) -> None:
    """Raise UserError if a file is not packed as its name says.

    It is not damaged, so fetching it again does not help.
    """
    if not suffix:
        return

    # A network file system may also be away here.
    with CheckedFile(path) as file:
        # The longest mark above has six bytes.
        head = file.read(6)

    # Some packers, such as pzstd, begin with a frame that readers skip.
    is_skippable = suffix in (".zst", ".zstd", ".lz4") and head[1:4] == SKIPPABLE
    if head.startswith(MAGIC[suffix]) or is_skippable:
        return

    other = next((name for name, magic in MAGIC.items() if head.startswith(magic)), "")
    holds = f"it is packed as {other}" if other else "it is not packed" if head else "it is empty"
    raise UserError(
        f"source {path} is not a {suffix} file: {holds}",
        hint="give it the name that it should have, or leave it out with --patterns",
    )


def decompressed(file: BinaryIO, suffix: str) -> BinaryIO:
    """Return the stream of a compressed or plain file's content."""
    if suffix == ".lz4":
        # The library that reads parquet can do it. It also reads a second frame.
        import pyarrow  # type: ignore[import-untyped]

        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "lz4"))

    if suffix in (".zst", ".zstd"):
        return cast(BinaryIO, ZstdFrames(file))

    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))

    if suffix == ".xz":
        return cast(BinaryIO, lzma.LZMAFile(file))

    if suffix == ".bz2":
        return cast(BinaryIO, bz2.BZ2File(file))

    return file


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error for a file that cannot be decompressed or parsed at all."""
    # The library has one type of error for all faults, so only its words show the cause.
    if "too much memory" in str(error):
        return UserError(
            f"source {path} asks for a Zstandard window of more than {LARGEST_WINDOW >> 30} GiB",
            hint="pack it again: zstd --long=31 is the most that prep reads",
        )

    return UserError(
        f"source {path} is damaged: {error}", hint="fetch it again, and prepare into a new folder"
    )

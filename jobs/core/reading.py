"""Read files that other users may have made: only regular files, and only up to a limit."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from jobctl.jobs.core.errors import UserError

MOST_BYTES = 64 << 20
"""The largest record that is read into memory, in bytes."""
MOST_BYTES_OF_A_LIST = 1 << 30
"""The same for a list of files and for a vocabulary."""
MOST_BYTES_OF_A_LOG = 1 << 30
"""The same for the log of one attempt: some millions of steps."""

T = TypeVar("T")

_carried: dict[str, str | None] = {}
"""Files of another machine by their paths there. None: that machine has no file at this path."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read. Raise OSError for any other kind, and do not wait for a FIFO."""
    # Without O_NONBLOCK the opening of a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))

    return os.fdopen(descriptor, "rb")


def open_within(path: Path, most: int) -> BinaryIO:
    """Open a regular file to read. Raise OSError for one that is longer than ``most`` bytes now."""
    file = open_regular(path)
    if os.fstat(file.fileno()).st_size > most:
        file.close()
        raise _too_long(path, most)

    return file


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises OSError if it cannot be read or is longer than ``most`` bytes.
    """
    with open_regular(path) as file:
        # Do not ask for the size beforehand: another process may append to the file at this moment.
        data = file.read(most + 1)

    if len(data) > most:
        raise _too_long(path, most)

    return data


def _too_long(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"longer than {most} bytes", str(path))


def decode_json(data: bytes | str, kind: type[T]) -> T:
    """Return the value of a JSON text that another user may have written.

    Raises msgspec.MsgspecError for any other text: also for bytes that are not text, and for deep nesting.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def carry(texts: Mapping[str, str | None]) -> None:
    """From now on, read these texts instead of the files at their paths.

    The user is at another machine, which has the files.
    """
    _carried.clear()
    _carried.update(texts)


def is_text_file(path: Path) -> bool:
    """Return whether ``read_text_file`` can read a file of that path."""
    return _carried[str(path)] is not None if str(path) in _carried else path.is_file()


def read_text_file(path: Path | str, *, hint: str = "") -> str:
    """Return the text of a file that the user names.

    Raises UserError, with ``hint``, if it cannot be read.
    """
    if (text := _carried.get(str(Path(path)))) is not None:
        return text

    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # The error for bytes that are not text has no strerror.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}", hint=hint) from None


def nearest_existing(path: Path) -> Path:
    """Return ``path``, or the closest folder above it that this user can see. New folders are made in it."""
    # Path.exists raises PermissionError below a private folder.
    return next(place for place in (path, *path.parents) if os.path.exists(place))

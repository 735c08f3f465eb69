"""A folder that is filled by names from elsewhere: each is opened part by part, over no symbolic link."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jobctl.jobs.core.names import UnsafeName, parts_of

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO returns at once, and the check for a regular file refuses it."""
CHUNK = 1 << 20


class Folder:
    """Read and write files below ``path``, which must be there.

    Every method raises UnsafeName for a name that ``parts_of`` refuses, for a path that leads over a symbolic
    link, and for a file that is not a regular one; OSError for what the file system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Return the bytes of a regular file; None where there is none."""
        try:
            with self.read(name) as file:
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file in hexadecimal digits; nothing where there is no file."""
        digest = hashlib.sha256()
        try:
            with self.read(name) as file:
                while block := file.read(CHUNK):
                    digest.update(block)
        except FileNotFoundError:
            return ""

        return digest.hexdigest()

    def read(self, name: str) -> BinaryIO:
        """Open a file to read."""
        return self._open(name, os.O_RDONLY)

    def append(self, name: str) -> BinaryIO:
        """Open a file that is there, to write behind its end."""
        return self._open(name, os.O_WRONLY | os.O_APPEND)

    def create(self, name: str) -> BinaryIO:
        """Open a new file to write, and make its folders; a file or link that is there is removed first."""
        parts_of(name)
        with self._parent(name, create=True) as (folder, last):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=folder)

            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            return os.fdopen(os.open(last, flags | _FILE, 0o666, dir_fd=folder), "wb")

    def replace(self, source: str, target: str) -> None:
        """Rename ``source`` to ``target``."""
        with self._parent(target) as (new_folder, new), self._parent(source) as (old_folder, old):
            os.replace(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    def remove(self, name: str) -> None:
        """Remove a file or a link where there is one."""
        with contextlib.suppress(FileNotFoundError), self._parent(name) as (folder, last):
            os.unlink(last, dir_fd=folder)

    def _open(self, name: str, flags: int) -> BinaryIO:
        with self._parent(name) as (folder, last):
            self._refuse_link(folder, last, name)
            descriptor = os.open(last, flags | _FILE, dir_fd=folder)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise UnsafeName(f"{self.path / name} is not a regular file")

            return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "rb")

    @contextlib.contextmanager
    def _parent(self, name: str, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that holds ``name``; its descriptor, and the last part of the name."""
        *folders, last = parts_of(name)
        with contextlib.ExitStack() as opened:
            try:
                folder = _opened(opened, str(self.path), None)
                for part in folders:
                    if create:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, dir_fd=folder)

                    self._refuse_link(folder, part, name)
                    folder = _opened(opened, part, folder)

                yield folder, last
            except OSError as error:
                error.filename = str(self.path / name)  # it had the last part alone
                raise

    def _refuse_link(self, folder: int, part: str, name: str) -> None:
        """Say it in words; the flags of the opening that follows make it sure."""
        mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise UnsafeName(
                f"{self.path / name} leads over a symbolic link ({part!r})", hint="remove the link"
            )


def _opened(stack: contextlib.ExitStack, name: str, folder: int | None) -> int:
    flags = _FOLDER if folder is not None else _FOLDER & ~os.O_NOFOLLOW
    descriptor = os.open(name, flags, dir_fd=folder)
    stack.callback(os.close, descriptor)
    return descriptor

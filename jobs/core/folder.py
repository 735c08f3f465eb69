"""Open files in a folder whose file names another user or program chose.

Each part of a name is opened in turn, and never through a symbolic link.
"""

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
"""O_NONBLOCK makes the opening of a FIFO return at once. The check for a regular file then refuses it."""
CHUNK = 1 << 20


class Folder:
    """Read and write files below ``path``, which must exist.

    Every method raises UnsafeName for a name that ``parts_of`` refuses, for a path through a symbolic link,
    and for a file that is not a regular file. It raises OSError for an error of the file system.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes, or None if it does not exist."""
        try:
            with self.read(name) as file:
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file in hexadecimal digits, or an empty text if it does not exist."""
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
        """Open an existing file to write at its end."""
        return self._open(name, os.O_WRONLY | os.O_APPEND)

    def create(self, name: str) -> BinaryIO:
        """Open a new file to write, and make its folders.

        Remove an existing file or link of that name first.
        """
        parts_of(name)
        with self._parent(name, create=True) as (folder, last):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=folder)

            # O_EXCL fails if another user put a link back in the meantime.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            return os.fdopen(os.open(last, flags | _FILE, 0o666, dir_fd=folder), "wb")

    def replace(self, source: str, target: str) -> None:
        """Rename ``source`` to ``target``."""
        with self._parent(target) as (new_folder, new), self._parent(source) as (old_folder, old):
            os.replace(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    def remove(self, name: str) -> None:
        """Remove a file or a link, if it exists."""
        with contextlib.suppress(FileNotFoundError), self._parent(name) as (folder, last):
            os.unlink(last, dir_fd=folder)

    def _open(self, name: str, flags: int) -> BinaryIO:
        with self._parent(name) as (folder, last):
            self._refuse_link(folder, last, name)
            descriptor = os.open(last, flags | _FILE, dir_fd=folder)
            # Checked on the open file. A check of the path could be outdated when the file is opened.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise UnsafeName(f"{self.path / name} is not a regular file")

            return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "rb")

    @contextlib.contextmanager
    def _parent(self, name: str, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that holds ``name``. Yield its descriptor and the last part of the name."""
        *folders, last = parts_of(name)
        with contextlib.ExitStack() as opened:
            try:
                folder = _opened(opened, str(self.path), None)
                # Open each part relative to the folder before it. Then nobody can turn a checked part into a
                # link.
                for part in folders:
                    if create:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, dir_fd=folder)

                    self._refuse_link(folder, part, name)
                    folder = _opened(opened, part, folder)

                yield folder, last
            except OSError as error:
                # The error names only the part that was opened. A message needs the whole path.
                error.filename = str(self.path / name)
                raise

    def _refuse_link(self, folder: int, part: str, name: str) -> None:
        """Raise UnsafeName for a link. It only gives a good message: the opening also refuses links."""
        mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise UnsafeName(
                f"{self.path / name} goes through a symbolic link ({part!r})", hint="remove the link"
            )


def _opened(stack: contextlib.ExitStack, name: str, folder: int | None) -> int:
    # The folder itself may be a link that the user made. Only the parts below it may not.
    flags = _FOLDER if folder is not None else _FOLDER & ~os.O_NOFOLLOW
    descriptor = os.open(name, flags, dir_fd=folder)
    stack.callback(os.close, descriptor)
    return descriptor

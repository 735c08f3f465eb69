"""Check names that came from elsewhere: a pod, a hub, an archive, or another user's record.

``inside`` turns such a name into a path to read. ``jobs.core.folder.Folder`` writes to such a name.
"""

from __future__ import annotations

import os
from pathlib import Path

from jobctl.jobs.core.errors import UserError

NAME_BYTES = 1024
"""The longest relative name, in bytes. Linux allows 4096 bytes for a whole path with its folder."""
PART_BYTES = 255
"""The longest name of a file on Linux, in bytes."""
DEPTH = 32
"""The largest depth of folders. Run directories and data sets of the hub are at most six folders deep."""
SHOWN_CHARACTERS = 80


class UnsafeName(UserError):
    """A name that leaves its folder, or that leads over a symbolic link."""


def shown(name: str) -> str:
    """Return ``name`` in quotes for a message, shortened and without control characters."""
    text = name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…"
    return repr(text)


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts of a relative name: folders first, the file last.

    Raises UnsafeName for a name that is absolute, empty, too long or too deep, or that holds ``.``, ``..``,
    a backslash or a NUL character.
    """
    if problem := _problem(name):
        raise UnsafeName(f"the name {shown(name)} is refused: {problem}")
    return tuple(name.split("/"))


def inside(folder: Path, name: str) -> Path:
    """Return the path of ``name`` below ``folder``.

    ``folder`` itself may be a link. Raises UnsafeName as ``parts_of`` does, and if a part of the path below
    ``folder`` is a symbolic link.
    """
    path = folder
    for part in parts_of(name):
        path = path / part
        if path.is_symlink():
            raise UnsafeName(
                f"{path} is a symbolic link; a name from a record or an archive must not go through a link",
                hint="replace the link with a copy of the file",
            )

    return path


def _problem(name: str) -> str:
    """Return the fault of a name, or an empty text if the name is safe."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return "it has characters that no file name can hold"

    # The system call would cut the name at this character, and open another file.
    if b"\0" in encoded:
        return "it has a NUL character"

    # Programs on other systems treat it as a separator of folders.
    if "\\" in name:
        return "it has a backslash"

    if name.startswith("/"):
        return "it is absolute"

    if len(encoded) > NAME_BYTES:
        return f"it is longer than {NAME_BYTES} bytes"

    return _problem_of_parts(name.split("/"))


def _problem_of_parts(parts: list[str]) -> str:
    if len(parts) > DEPTH:
        return f"it is deeper than {DEPTH} folders"

    if ".." in parts:
        return "it leads out of its folder"

    if "" in parts or "." in parts:
        return "a part of it is empty or '.'"

    if any(len(os.fsencode(part)) > PART_BYTES for part in parts):
        return f"a part of it is longer than {PART_BYTES} bytes"

    return ""

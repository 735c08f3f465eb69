"""Copy a folder that other users may write to.

A copy takes only regular files, follows no link, and stops at a limit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.folder import Folder
from jobctl.jobs.core.names import DEPTH, UnsafeName, parts_of, shown

FILES = 1_000_000
"""The largest number of files that one copy takes."""


class Copied(msgspec.Struct, kw_only=True):
    """The result of a copy. ``skipped`` names each file that was left out, with the reason."""

    files: int = 0
    copied: int = 0
    skipped: list[str] = []


def copy_tree(source: Path, into: Path) -> Copied:
    """Copy the files below ``source`` to ``into``. Keep an existing file with the same size and time.

    Links, devices and unreadable files are skipped, and the result names them. Raises UserError for too many
    files. Raises OSError if ``into`` cannot be written.
    """
    into.mkdir(parents=True, exist_ok=True)
    result = Copied()
    origin = Folder(source)
    target = Folder(into)

    for name in files_below(source, result.skipped):
        # Counted before the copy. Another user may add files while we read, and must not keep us here
        # forever.
        result.files += 1
        if result.files > FILES:
            raise UserError(f"{source} holds more than {FILES} files", hint="copy its folders one by one")

        result.copied += _copy(origin, target, name, result)

    return result


def aside(name: str) -> str:
    """Return the temporary name under which ``name`` is written. ``name`` may contain folders."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}.{last}.part"


def files_below(folder: Path, skipped: list[str], prefix: str = "") -> Iterator[str]:
    """Yield the relative names of all regular files, sorted.

    Add each other entry to ``skipped``, with the reason.
    """
    try:
        with os.scandir(folder / prefix) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        skipped.append(f"{shown(prefix or '.')}: {error.strerror}")
        return

    for entry in entries:
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_symlink():
            skipped.append(f"{shown(name)}: a symbolic link")
        elif entry.is_file(follow_symlinks=False):
            yield name
        elif not entry.is_dir(follow_symlinks=False):
            skipped.append(f"{shown(name)}: not a regular file")
        elif name.count("/") + 2 > DEPTH:
            skipped.append(f"{shown(name)}: deeper than {DEPTH} folders")
        else:
            yield from files_below(folder, skipped, name)


def _copy(origin: Folder, target: Folder, name: str, result: Copied) -> bool:
    """Copy one file. Return True if it was copied, False if it was skipped or exists already."""
    try:
        # The name to write to is longer than `name`, so it is checked as well, before anything is opened.
        parts_of(aside(name))
        content = origin.read(name)
    except UnsafeName as error:
        result.skipped.append(f"{shown(name)}: {error.message}")
        return False
    except OSError as error:
        result.skipped.append(f"{shown(name)}: {error.strerror}")
        return False

    with content:
        # Read the facts of the open file. Another user may replace the path at any time.
        facts = os.fstat(content.fileno())
        if _is_same(target, name, facts):
            return False

        with target.create(aside(name)) as file:
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
            # The next copy compares size and time (`_is_same`), so the copy keeps the time of its source.
            os.utime(file.fileno(), ns=(facts.st_mtime_ns, facts.st_mtime_ns))

        target.replace(aside(name), name)

    return True


def _is_same(target: Folder, name: str, facts: os.stat_result) -> bool:
    try:
        with target.read(name) as file:
            copied = os.fstat(file.fileno())
    except (FileNotFoundError, UnsafeName):
        return False

    return (copied.st_size, copied.st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)

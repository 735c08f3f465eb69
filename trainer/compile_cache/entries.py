"""Entries of a compile cache: found, copied whole from one folder to another, and removed when there are too many.

An entry appears in its place by one rename, when all of it is written. Whoever comes second drops his own.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TRITON = "triton"
"""Each folder below is one kernel, whose files belong together."""
INDUCTOR = "inductor"
"""Each file below stands by itself."""
ASIDE = ".aside"
"""The folder in which entries are written before they are renamed."""
MANIFEST = "__grp__"
"""Triton's list of a kernel's files begins with this. It has absolute paths; what lies elsewhere counts as missing."""
AFTER_EVICTION = 0.9
"""The share of the limit that is used when the oldest entries have been removed."""


@dataclass(frozen=True)
class Entry:
    """A kernel's folder, or one file."""

    place: Path
    """Relative to the folder of the cache."""
    size: int
    """Bytes."""
    written: float
    """Seconds since the epoch."""


def entries(folder: Path) -> Iterator[Entry]:
    """Yield the whole entries of ``folder``. Leave out entries that vanish meanwhile or are half written."""
    for kernel in _children(folder / TRITON):
        if kernel.is_dir():
            yield from _entry(
                folder, kernel.relative_to(folder), [file for file in _files(kernel) if _is_kept(file)]
            )

    for file in _files(folder / INDUCTOR):
        if _is_kept(file):
            yield from _entry(folder, file.relative_to(folder), [file])


def _entry(folder: Path, place: Path, files: list[Path]) -> Iterator[Entry]:
    try:
        facts = [file.stat() for file in files]
        written = (folder / place).stat().st_mtime
    except OSError:
        return

    # An empty file was not written to its end, so the whole entry does not count.
    if facts and all(fact.st_size for fact in facts):
        yield Entry(place, sum(fact.st_size for fact in facts), written)


def _children(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _files(folder: Path) -> Iterator[Path]:
    for path in _children(folder):
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        else:
            yield path


def _is_kept(file: Path) -> bool:
    """Return whether a file is useful elsewhere: it is not a lock, and nobody is writing it."""
    # The compilers write under such names first, and rename at the end.
    temporary = any(part.startswith("tmp.") for part in file.parts[-2:])
    return (
        not temporary
        and not file.is_symlink()
        and file.name != "lock"
        and file.suffix not in (".lock", ".tmp")
    )


def copy(entry: Entry, source: Path, target: Path, *, durably: bool) -> bool:
    """Copy an entry to another cache; whether it is there by this call.

    ``durably``: on disk before it appears, so that no crash leaves it half.
    Raises OSError where the target cannot be written. One that vanishes from ``source`` meanwhile is skipped.
    """
    place = target / entry.place
    if place.exists():
        return False

    # Host and process keep two jobs apart that write to the same shared folder.
    aside = target / ASIDE / f"{socket.gethostname()}-{os.getpid()}-{entry.place.name}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        _copy_aside(source / entry.place, aside, place, durably)
        return _appear(aside, place)
    except FileNotFoundError:
        return False
    finally:
        _remove(aside)


def _copy_aside(source: Path, aside: Path, place: Path, durably: bool) -> None:
    if not source.is_dir():
        _write(aside, source.read_bytes(), source.stat().st_mode, durably)
        return

    before = _identity(source)
    aside.mkdir()
    for file in _files(source):
        if _is_kept(file):
            inside = aside / file.relative_to(source)
            inside.parent.mkdir(exist_ok=True)
            text = file.read_bytes()
            content = moved(text, place) if file.name.startswith(MANIFEST) else text
            _write(inside, content, file.stat().st_mode, durably)

    # Another job may have removed the entry meanwhile, and a third one published its own at the same place.
    # The copy then has some files of each, or none at all.
    if _identity(source) != before:
        raise FileNotFoundError(errno.ENOENT, "the entry was removed while it was copied", str(source))


def _identity(folder: Path) -> tuple[int, int]:
    """Return an identity of this very folder. A later folder may get its number, but not its time."""
    facts = folder.stat()
    return facts.st_ino, facts.st_ctime_ns


def moved(manifest: bytes, place: Path) -> bytes:
    """Return Triton's list of a kernel's files, with the paths for a kernel in ``place``.

    A list of another form is returned as it is: Triton then compiles the kernel anew.
    """
    try:
        content = json.loads(manifest)
        paths = content["child_paths"]
        content["child_paths"] = {name: str(place / Path(path).name) for name, path in paths.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return manifest

    return json.dumps(content).encode()


def _write(path: Path, content: bytes, mode: int, durably: bool) -> None:
    with open(path, "wb") as file:
        file.write(content)
        if durably:
            file.flush()
            os.fsync(file.fileno())

    # Never writable for others, whatever the source was: these files are loaded as code.
    path.chmod(mode & 0o755)


def _appear(aside: Path, place: Path) -> bool:
    """Rename into place. Return False if another process was first."""
    try:
        # A folder cannot be renamed onto another one with files in it, so the first one wins.
        aside.rename(place)
    except OSError:
        if place.exists():
            return False

        raise

    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def evict(folders: Iterable[Path], limit: int) -> int:
    """Remove the oldest entries until all these caches have at most ``limit`` bytes. Return their number.

    A kernel leaves by one rename, so that no reader sees a part of it.
    """
    known = [(folder, entry) for folder in folders for entry in entries(folder)]
    known.sort(key=lambda pair: pair[1].written)
    size = sum(entry.size for _, entry in known)
    if size <= limit:
        return 0

    removed = 0
    for folder, entry in known:
        # A little below the limit, or the next entry would start all this again.
        if size <= limit * AFTER_EVICTION:
            break

        aside = folder / ASIDE / f"{socket.gethostname()}-{os.getpid()}-old-{entry.place.name}"
        try:
            aside.parent.mkdir(exist_ok=True)
            (folder / entry.place).rename(aside)
        except OSError:  # another job removes the same ones
            continue

        _remove(aside)
        size -= entry.size
        removed += 1

    return removed


def remove_left(folder: Path, older_than: float) -> None:
    """Remove temporary files of killed processes that have not changed since ``older_than``."""
    for path in _children(folder / ASIDE):
        try:
            # A younger one may belong to a job that is writing it now.
            if path.stat().st_mtime < older_than:
                _remove(path)
        except OSError:
            continue

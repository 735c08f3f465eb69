"""List the files in folders that a user names. A file that cannot be read is never skipped in silence."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.ownership import check_link
from jobctl.prep.sources.kinds import READABLE, kind

SAYS_HELD_OUT = re.compile(r"(?:^|[/_.-])(test|valid|validation|val|dev|eval)(?:[/_.-]|$)", re.IGNORECASE)
"""Names of files that are probably not meant for training."""


class Source(NamedTuple):
    """A file to read.

    ``name`` is its name in manifests, the same on every machine. ``path`` is its place on this machine.
    ``sha256`` is empty unless the hash is known beforehand.
    """

    name: str
    path: Path
    sha256: str = ""


class Skipped(NamedTuple):
    """A file or folder that is not read, and the reason in words."""

    path: Path
    reason: str


class Listing(NamedTuple):
    """Files to read, sorted by name, and the others."""

    sources: list[Source]
    skipped: list[Skipped]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return True if a path matches one of the patterns, and none of those that begin with ``!``.

    If all patterns begin with ``!``, every other path matches.
    """
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in unwanted):
        return False

    return not wanted or any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)


def all_patterns(entry: DatasetEntry) -> list[str]:
    """Return the patterns of all files to read: training files, and the source's own validation files."""
    wanted = [pattern for pattern in entry.patterns if not pattern.startswith("!")]
    return [*entry.patterns, *(entry.validation_files if wanted else ())]


def is_validation_file(name: str, entry: DatasetEntry) -> bool:
    """Return True for a file of the source's own validation split, if that becomes our validation split."""
    return bool(entry.validation_files) and matches(name, entry.validation_files)


def hidden(name: str) -> bool:
    return name.startswith(".")


def walk(folder: Path) -> Iterator[Path | Skipped]:
    """Yield all files under a folder, and the folders that are not entered. Skip hidden files and folders."""
    refused: list[OSError] = []
    # Without `onerror`, os.walk skips a folder that it cannot read.
    for place, folders, files in os.walk(folder, onerror=refused.append):
        # The list is changed in place, because os.walk continues with this very list.
        folders[:] = [name for name in folders if not hidden(name)]
        for name in folders:
            # A link could lead back to a folder above it, and the walk would have no end.
            if os.path.islink(os.path.join(place, name)):
                yield Skipped(Path(place, name), "a link to a folder; prep does not follow it")

        yield from (Path(place, name) for name in files if not hidden(name))

    for error in refused:
        yield Skipped(Path(error.filename), error.strerror or "it cannot be read")


def folder_files(folder: Path, patterns: Sequence[str], prefix: str = "") -> Listing:
    """List the files under a folder whose path matches the patterns."""
    sources: list[Source] = []
    skipped: list[Skipped] = []
    for entry in walk(folder):
        path = entry.path if isinstance(entry, Skipped) else entry
        name = path.relative_to(folder).as_posix()
        if isinstance(entry, Skipped):
            skipped.append(entry)
        elif not matches(name, patterns):
            continue
        elif path.is_symlink() and not path.exists():
            # The maker of the link meant it to be data, so it is not skipped.
            raise UserError(f"source {path} is a link to nothing", hint="remove the link, or repair it")
        elif not path.is_file():
            skipped.append(Skipped(path, "not a file"))
        elif not kind(name):
            skipped.append(Skipped(path, "not of a kind that prep reads"))
        else:
            check_link(path)
            sources.append(Source(prefix + name, path))

    return Listing(sorted(sources), sorted(skipped))


def listed_files(paths: Sequence[Path], patterns: Sequence[str]) -> Listing:
    """List files and folders that a user named.

    With several folders, each file's name begins with its folder.
    """
    sources: list[Source] = []
    skipped: list[Skipped] = []
    for path in paths:
        if path.is_dir():
            listing = folder_files(path, patterns, prefix=f"{path.name}/" if len(paths) > 1 else "")
            sources += listing.sources
            skipped += listing.skipped
        elif path.is_file():
            if not kind(path.name):
                raise UserError(f"{path}: cannot tell its kind", hint=f"readable: {READABLE}")

            sources.append(Source(path.name, path))
        else:
            problem = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise UserError(f"source {path} {problem}")

    check_sources(sources)

    return Listing(sorted(sources), skipped)


def check_sources(sources: Sequence[Source]) -> None:
    """Raise UserError for a name that is not UTF-8, for two files of one name, and for a file named twice."""
    for source in sources:
        # Names in other encodings hold surrogates, which the manifest cannot write.
        if source.name != source.name.encode(errors="replace").decode():
            raise UserError(f"source {source.name!r}: its name is not UTF-8", hint="rename it")

    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise UserError(f"two sources are called {name}", hint="give the folder above them as --source")

    # Links are followed, because two names may lead to one file.
    for path, count in Counter(source.path.resolve() for source in sources).items():
        if count > 1:
            raise UserError(f"source {path} is named {count} times", hint="give each --source once")


def check_skipped(skipped: Sequence[Skipped]) -> None:
    """Raise UserError that names the files that would not be read."""
    if not skipped:
        return

    named = "; ".join(f"{path}: {reason}" for path, reason in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    raise UserError(
        f"{len(skipped)} of the source files cannot be read: {named}{more}",
        hint=f"choose the files to read with --patterns, or use --ignore-unreadable; readable: {READABLE}",
    )


def held_out(sources: Sequence[Source], entry: DatasetEntry) -> list[str]:
    """Return the training files whose names say test or validation."""
    return [
        source.name
        for source in sources
        if SAYS_HELD_OUT.search(source.name) and not is_validation_file(source.name, entry)
    ]

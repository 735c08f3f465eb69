"""The manifest: every source file with its size and SHA-256, made before any text is read.

Files of a mirror are not read for it: the hub's list has their hashes, and reading their text holds them to those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources.files import CheckedFile
from jobctl.prep.sources.listing import Source

FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    """Sorted by path."""

    files: tuple[SourceFile, ...]
    times: dict[str, int] = {}
    """When each file that was read for its hash was last changed, in nanoseconds."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


def described(source: Source) -> SourceFile:
    """Return the size and SHA-256 of a source, which is read unless its hash is known."""
    if source.sha256:
        return SourceFile(path=source.name, size=source.path.stat().st_size, sha256=source.sha256)

    try:
        with CheckedFile(source.path) as file:
            file.read_on()
            return SourceFile(path=source.name, size=file.tell(), sha256=file.sha256)
    except OSError as error:
        raise UserError(f"source {source.path} cannot be read: {error.strerror or error}", code=1) from None


def changed_at(source: Source) -> int:
    """Return the time of a file's last change in nanoseconds; 0 where it is gone."""
    try:
        return source.path.stat().st_mtime_ns
    except OSError:
        return 0


def make(
    sources: Sequence[Source], workers: int, seen: Callable[[int], None] = lambda size: None
) -> Manifest:
    """Read every source once whose hash is not known. ``seen`` is told the bytes of each file that is done."""

    def all_described() -> Iterator[SourceFile]:
        with ThreadPoolExecutor(workers) as pool:  # hashing leaves the interpreter lock
            for file in pool.map(described, sources):
                seen(file.size)
                yield file

    # Taken before the files are read: one that changes meanwhile is read again.
    times = {source.name: changed_at(source) for source in sources if not source.sha256}
    return Manifest(tuple(all_described()), times)


def save(manifest: Manifest, folder: Path) -> None:
    write_whole(folder / FILE, msgspec.json.encode(manifest))


def load(folder: Path) -> Manifest | None:
    """The manifest in ``folder``; None where there is none yet."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise UserError(
            f"{folder / FILE} is damaged: {error}", hint=f"delete {folder} and start again"
        ) from None


def has_other_bytes(manifest: Manifest, source: Source, known: SourceFile) -> bool:
    """Return whether a file was changed in place. One that was touched is read, for its time tells no more."""
    if manifest.times.get(source.name, 0) in (0, changed_at(source)):
        return False
    return described(source).sha256 != known.sha256


def compare(manifest: Manifest, sources: Sequence[Source]) -> None:
    """Raise UserError where a file is missing, was added, has another size than in the manifest, or another hash than
    it must have."""
    known = {file.path: file for file in manifest.files}
    here = {source.name: source for source in sources}
    problems = [f"{name} is missing" for name in sorted(known.keys() - here.keys())]
    problems += [f"{name} was added" for name in sorted(here.keys() - known.keys())]

    for name in sorted(known.keys() & here.keys()):
        size = here[name].path.stat().st_size
        sha256 = here[name].sha256
        if size != known[name].size:
            problems.append(f"{name} changed: {size} bytes, the manifest says {known[name].size}")
        elif sha256 not in ("", known[name].sha256):
            problems.append(f"{name} is not what the hub has: another SHA-256")
        elif has_other_bytes(manifest, here[name], known[name]):
            problems.append(f"{name} changed: other bytes of the same size")

    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise UserError(
            "the source files are not those of the manifest: " + "; ".join(problems[:5]) + more,
            hint="put them back, or prepare into a new folder with --output",
        )

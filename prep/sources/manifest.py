"""The manifest: every source file with its size and SHA-256, made before any text is read.

Files of a mirror are not read for it: the hub's list has their hashes, and reading their text holds them to those.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources.files import CHUNK, CheckedFile
from jobctl.prep.sources.listing import Source

FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    """Sorted by path."""

    files: tuple[SourceFile, ...]
    times: dict[str, int] = {}
    """When each file was last changed, in nanoseconds; taken before it was read."""
    pieces: dict[str, tuple[str, ...]] = {}
    """The SHA-256 of each piece of the files that are read in pieces, by path."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class Part(NamedTuple):
    """A file, or a piece of one, that is read at once for the manifest; ``edges`` bound its pieces, in bytes."""

    source: Source
    edges: tuple[int, ...] = ()


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a part told: ``sha256`` of the whole file where it was read from end to end, else empty."""

    path: str
    size: int
    sha256: str
    pieces: tuple[str, ...] = ()
    changed: int = 0


Cut = Callable[[Source, int], Sequence[int]]
"""Gets a source and its size, and returns the edges of its pieces; none where it is read whole."""


def whole(source: Source, size: int) -> Sequence[int]:
    """Cut nothing."""
    return ()


def edges(size: int, count: int) -> tuple[int, ...]:
    """Return the edges of ``count`` pieces of about equal size: ``count`` + 1 places, in bytes."""
    return tuple(size * piece // count for piece in range(count + 1))


def changed_at(source: Source) -> int:
    """Return the time of a file's last change in nanoseconds; 0 where it is gone."""
    try:
        return source.path.stat().st_mtime_ns
    except OSError:
        return 0


def size_of(source: Source) -> int:
    """Return the size of a source. Raises UserError where it is gone."""
    try:
        return source.path.stat().st_size
    except OSError as error:
        raise UserError(f"source {source.path} cannot be read: {error.strerror or error}", code=1) from None


def parts(sources: Sequence[Source], cut: Cut = whole) -> list[Part]:
    """Return what is to be read for the manifest: no file whose hash is known, unless it is read in pieces.

    A file of known hash is one part, for its hash is of the whole. Others are a part a piece, so that many
    workers share a large one.
    """
    wanted: list[Part] = []
    for source in sources:
        places = tuple(cut(source, size_of(source)))
        if places and not source.sha256:
            wanted += [Part(source, pair) for pair in itertools.pairwise(places)]
        elif places or not source.sha256:
            wanted.append(Part(source, places))

    return wanted


def described(part: Part) -> Described:
    """Read a part. Raises UserError where that fails, or a whole file has not the hash that it must have."""
    source = part.source
    changed = changed_at(source)
    digest = hashlib.sha256()
    pieces: list[str] = []

    try:
        with CheckedFile(source.path) as file:
            for start, stop in itertools.pairwise(part.edges):
                file.seek(start)
                while data := file.read(min(CHUNK, stop - file.tell())):
                    digest.update(data)

                pieces.append(file.sha256)

            if not part.edges:
                file.read_on()
                return Described(path=source.name, size=file.tell(), sha256=file.sha256, changed=changed)
    except OSError as error:
        raise UserError(f"source {source.path} cannot be read: {error.strerror or error}", code=1) from None

    if source.sha256 and digest.hexdigest() != source.sha256:
        raise UserError(
            f"source {source.path} has other bytes than the hub's list says",
            hint="fetch it again: python -m jobctl.prep.mirror --check",
        )

    return Described(
        path=source.name,
        size=size_of(source),
        sha256=digest.hexdigest() if source.sha256 else "",
        pieces=tuple(pieces),
        changed=changed,
    )


def combined(sources: Sequence[Source], all_described: Sequence[Described]) -> Manifest:
    """Return the manifest of all sources. Raises UserError where the parts are not those of these files.

    The hash of a file in pieces is the SHA-256 of its pieces' hashes, in hexadecimal digits end to end.
    """
    by_path: dict[str, list[Described]] = {}
    for item in all_described:
        by_path.setdefault(item.path, []).append(item)

    files: list[SourceFile] = []
    times: dict[str, int] = {}
    pieces: dict[str, tuple[str, ...]] = {}
    for source in sources:
        items = by_path.pop(source.name, [])
        digests = tuple(digest for item in items for digest in item.pieces)
        known = source.sha256 or "".join(item.sha256 for item in items)
        sha256 = known or hashlib.sha256("".join(digests).encode()).hexdigest()
        size = items[0].size if items else size_of(source)
        files.append(SourceFile(path=source.name, size=size, sha256=sha256))
        times[source.name] = min((item.changed for item in items), default=changed_at(source))
        if digests:
            pieces[source.name] = digests

        if len({item.size for item in items}) > 1 or len({item.changed for item in items}) > 1:
            raise UserError(
                f"source {source.path} changed while its hash was taken",
                hint="wait until nobody writes to it, and prepare into a new folder with --output",
            )

    return Manifest(tuple(files), times, pieces)


def make(
    sources: Sequence[Source],
    workers: int,
    seen: Callable[[int], None] = lambda size: None,
    cut: Cut = whole,
) -> Manifest:
    """Read every source once whose hash is not known. ``seen`` is told the bytes of each part that is done."""
    wanted = parts(sources, cut)
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves the interpreter lock
        results: list[Described] = []
        for item in pool.map(described, wanted):
            seen(item.size)
            results.append(item)

    return combined(sources, results)


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

    digests = manifest.pieces.get(source.name, ())
    bare = source._replace(sha256="")
    if digests:
        return described(Part(bare, edges(known.size, len(digests)))).pieces != digests

    return described(Part(bare)).sha256 != known.sha256


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

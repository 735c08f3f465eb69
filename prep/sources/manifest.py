"""The manifest: every source file with its size and SHA-256, made before any text is read.

Files of a mirror are not read for it, because the hub's list has their hashes. Prep compares the hashes when
it reads the text.
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
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LIST, decode_json, read_regular
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources.files import CHUNK, CheckedFile
from jobctl.prep.sources.listing import Source

FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    """All source files, sorted by path."""

    files: tuple[SourceFile, ...]
    times: dict[str, int] = {}
    """The time of each file's last change in nanoseconds, taken before the file was read."""
    pieces: dict[str, tuple[str, ...]] = {}
    """For files that are read in pieces: the SHA-256 of each piece, by path."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class Part(NamedTuple):
    """A file or a piece that one worker reads for the manifest. ``edges`` bound its pieces, in bytes."""

    source: Source
    edges: tuple[int, ...] = ()


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """The result of reading a part. ``sha256`` is empty unless the whole file was read."""

    path: str
    size: int
    sha256: str
    pieces: tuple[str, ...] = ()
    changed: int = 0


Cut = Callable[[Source, int], Sequence[int]]
"""A function of a source and its size.

It returns the edges of the pieces, or no edges to read the file whole.
"""


def whole(source: Source, size: int) -> Sequence[int]:
    """Cut nothing."""
    return ()


def edges(size: int, count: int) -> tuple[int, ...]:
    """Return the edges of ``count`` pieces of about equal size: ``count`` + 1 places, in bytes."""
    return tuple(size * piece // count for piece in range(count + 1))


def changed_at(source: Source) -> int:
    """Return the time of a file's last change in nanoseconds, or 0 if the file is gone."""
    try:
        return source.path.stat().st_mtime_ns
    except OSError:
        return 0


def size_of(source: Source) -> int:
    """Return the size of a source. Raises UserError if it is gone."""
    try:
        return source.path.stat().st_size
    except OSError as error:
        raise UserError(f"source {source.path} cannot be read: {error.strerror or error}", code=1) from None


def parts(sources: Sequence[Source], cut: Cut = whole) -> list[Part]:
    """Return the parts to read for the manifest. A file with a known hash is read only if it has pieces.

    A file with a known hash is one part, because the hash is that of the whole file. Any other piece is a
    part, so that many workers share a large file.
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
    """Read a part.

    Raises UserError if that fails, or if a whole file has another hash than the expected one.
    """
    source = part.source

    # The time is taken before the read, so that a change during the read shows as a later time.
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
    """Return the manifest of all sources. Raises UserError if a file changed while its parts were read.

    The hash of a file in pieces is the SHA-256 of the joined hexadecimal hashes of its pieces.
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
        # The earliest time, so that a change while the parts were read shows as a later one.
        times[source.name] = min((item.changed for item in items), default=changed_at(source))
        if digests:
            pieces[source.name] = digests

        # Several workers have read its parts, perhaps with a change in between.
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
    """Read every source without a known hash once. ``seen`` gets the bytes of each finished part."""
    wanted = parts(sources, cut)
    # Threads are enough: hashlib releases the interpreter lock.
    with ThreadPoolExecutor(workers) as pool:
        results: list[Described] = []
        for item in pool.map(described, wanted):
            seen(item.size)
            results.append(item)

    return combined(sources, results)


def save(manifest: Manifest, folder: Path) -> None:
    write_whole(folder / FILE, msgspec.json.encode(manifest))


def load(folder: Path) -> Manifest | None:
    """Return the manifest in ``folder``, or None if there is none yet."""
    try:
        return decode_json(read_regular(folder / FILE, MOST_BYTES_OF_A_LIST), Manifest)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise UserError(
            f"{folder / FILE} is damaged: {error}", hint=f"delete {folder} and start again"
        ) from None


def has_other_bytes(manifest: Manifest, source: Source, known: SourceFile) -> bool:
    """Return True if a file was changed in place. If only its time is new, read it to find out."""
    # 0: the time is not known, as in manifests of earlier versions.
    if manifest.times.get(source.name, 0) in (0, changed_at(source)):
        return False

    digests = manifest.pieces.get(source.name, ())
    # The expected hash is left out: other bytes are an answer here, not an error.
    bare = source._replace(sha256="")
    if digests:
        return described(Part(bare, edges(known.size, len(digests)))).pieces != digests

    return described(Part(bare)).sha256 != known.sha256


def compare(manifest: Manifest, sources: Sequence[Source]) -> None:
    """Raise UserError if a file is missing, was added, or has another size or hash than in the manifest."""
    known = {file.path: file for file in manifest.files}
    present = {source.name: source for source in sources}
    problems = [f"{name} is missing" for name in sorted(known.keys() - present.keys())]
    problems += [f"{name} was added" for name in sorted(present.keys() - known.keys())]

    for name in sorted(known.keys() & present.keys()):
        size = present[name].path.stat().st_size
        sha256 = present[name].sha256
        if size != known[name].size:
            problems.append(f"{name} changed: {size} bytes, the manifest says {known[name].size}")
        elif sha256 not in ("", known[name].sha256):
            problems.append(f"{name} is not what the hub has: another SHA-256")
        elif has_other_bytes(manifest, present[name], known[name]):
            problems.append(f"{name} changed: other bytes of the same size")

    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise UserError(
            "the source files are not those of the manifest: " + "; ".join(problems[:5]) + more,
            hint="restore them, or prepare into a new folder with --output",
        )

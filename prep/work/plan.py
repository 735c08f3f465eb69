"""The plan: which source bytes become which shard.

It follows from the manifest, so every worker has the same plan.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.kinds import CUT, TABLES, compression, kind
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.manifest import Manifest, edges

EXPANSION = 3
"""About the number of text bytes in one byte of a compressed file.

It decides only how equal the units are.
"""
Unit = tuple[Piece, ...]


def weight(name: str, size: int) -> int:
    """Return about the number of text bytes in a file."""
    return size * (EXPANSION if compression(name) or kind(name) in TABLES else 1)


def cuts(name: str, size: int, shard_bytes: int) -> tuple[int, ...]:
    """Return the edges of the pieces of a large JSON file. Any other file is read whole and has none."""
    count = -(-size // shard_bytes)
    if count < 2 or compression(name) or kind(name) not in CUT:
        return ()

    return edges(size, count)


def pieces(source: Source, size: int, shard_bytes: int, digests: Sequence[str]) -> list[Piece]:
    """Return the pieces of a source. Each has its hash if the manifest has ``digests``."""
    places = cuts(source.name, size, shard_bytes)
    if not places:
        return [Piece(source)]

    known = digests or [""] * (len(places) - 1)
    return [
        Piece(source, start, stop, sha256)
        for (start, stop), sha256 in zip(itertools.pairwise(places), known, strict=True)
    ]


def plan(manifest: Manifest, sources: Sequence[Source], shard_bytes: int) -> list[Unit]:
    """Return units of about ``shard_bytes`` of text each, in the manifest's order."""
    by_name = {source.name: source for source in sources}
    sized: list[tuple[Piece, int]] = []
    for file in manifest.files:
        digests = manifest.pieces.get(file.path, ())
        for piece in pieces(by_name[file.path], file.size, shard_bytes, digests):
            # A piece that is a whole file has no bounds.
            sized.append((piece, weight(file.path, piece.stop - piece.start or file.size)))

    units: list[list[Piece]] = [[]]
    filled = 0

    for piece, size in sized:
        # A piece that is larger than a unit has one to itself, because it cannot be divided.
        if units[-1] and filled + size > shard_bytes:
            units.append([])
            filled = 0

        units[-1].append(piece)
        filled += size

    return [tuple(unit) for unit in units]

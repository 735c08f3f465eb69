"""Which source bytes become which shard: computed from the manifest, so every worker has the same plan."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.kinds import CUT, TABLES, compression, kind
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.manifest import Manifest

EXPANSION = 3
"""Bytes of text in a byte of a compressed file, about; only the balance hangs on it."""
Unit = tuple[Piece, ...]


def weight(name: str, size: int) -> int:
    """Bytes of text in a file, about."""
    return size * (EXPANSION if compression(name) or kind(name) in TABLES else 1)


def pieces(source: Source, size: int, shard_bytes: int) -> list[Piece]:
    """A large file of JSON in parts of equal size; any other file whole."""
    parts = -(-size // shard_bytes)
    if parts < 2 or compression(source.name) or kind(source.name) not in CUT:
        return [Piece(source)]

    edges = [size * part // parts for part in range(parts + 1)]
    return [Piece(source, start, stop) for start, stop in itertools.pairwise(edges)]


def plan(manifest: Manifest, sources: Sequence[Source], shard_bytes: int) -> list[Unit]:
    """Units of about ``shard_bytes`` of text each, in the manifest's order."""
    where = {source.name: source for source in sources}
    sized: list[tuple[Piece, int]] = []
    for file in manifest.files:
        for piece in pieces(where[file.path], file.size, shard_bytes):
            sized.append((piece, weight(file.path, piece.stop - piece.start or file.size)))

    units: list[list[Piece]] = [[]]
    filled = 0

    for piece, size in sized:
        if units[-1] and filled + size > shard_bytes:
            units.append([])
            filled = 0

        units[-1].append(piece)
        filled += size

    return [tuple(unit) for unit in units]

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources.listing import Source
from jobctl.prep.sources.manifest import Manifest
from jobctl.prep.work.plan import plan

ENTRY = DatasetEntry(summary="", license="")


def units(sizes: dict[str, int], shard_bytes: int) -> list[list[tuple[str, int, int]]]:
    files = tuple(SourceFile(path=name, size=size, sha256="") for name, size in sizes.items())
    sources = [Source(name, Path(name)) for name in sizes]
    found = plan(Manifest(files), sources, shard_bytes)
    return [[(piece.source.name, piece.start, piece.stop) for piece in unit] for unit in found]


def test_small_files_share_a_shard_and_large_ones_are_shared_out() -> None:
    sizes = {"a.jsonl": 40, "b.jsonl": 50, "c.jsonl": 250, "d.jsonl.zst": 60, "e.txt": 500}
    assert units(sizes, 100) == [
        [("a.jsonl", 0, 0), ("b.jsonl", 0, 0)],
        [("c.jsonl", 0, 83)],
        [("c.jsonl", 83, 166)],
        [("c.jsonl", 166, 250)],
        [("d.jsonl.zst", 0, 0)],
        [("e.txt", 0, 0)],
    ]

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"a.txt": 60, "b.txt": 40}, [["a.txt", "b.txt"]]),
        ({"a.txt": 60, "b.txt": 41}, [["a.txt"], ["b.txt"]]),
        ({"a.txt": 100, "b.txt": 0}, [["a.txt", "b.txt"]]),
        ({"a.txt.gz": 33, "b.txt": 1}, [["a.txt.gz", "b.txt"]]),
        ({"a.txt.gz": 34, "b.txt": 1}, [["a.txt.gz"], ["b.txt"]]),
        ({"a.parquet": 33, "b.parquet": 1}, [["a.parquet"], ["b.parquet"]]),
        ({"a.txt": 10, "b.txt": 900, "c.txt": 10}, [["a.txt"], ["b.txt"], ["c.txt"]]),
        ({}, [[]]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_unit_is_full_when_the_next_file_does_not_fit(
    sizes: dict[str, int], expected: list[list[str]]
) -> None:
    """A compressed file and a table hold about three times their bytes of text."""
    assert [[name for name, _, _ in unit] for unit in units(sizes, 100)] == expected


def test_a_file_of_exactly_one_shard_is_whole_and_one_byte_more_makes_two_pieces() -> None:
    assert units({"a.jsonl": 100}, 100) == [[("a.jsonl", 0, 0)]]
    assert units({"a.jsonl": 101}, 100) == [[("a.jsonl", 0, 50)], [("a.jsonl", 50, 101)]]


def test_each_piece_has_its_hash_of_the_manifest_and_a_whole_file_has_none() -> None:
    files = tuple(
        SourceFile(path=name, size=size, sha256="f") for name, size in (("a.jsonl", 200), ("b.txt", 9))
    )
    manifest = Manifest(files, pieces={"a.jsonl": ("one", "two")})
    made = plan(manifest, [Source(file.path, Path(file.path)) for file in files], 100)
    assert [(piece.stop, piece.sha256) for unit in made for piece in unit] == [
        (100, "one"),
        (200, "two"),
        (0, ""),
    ]


def test_a_manifest_that_was_made_for_other_shards_is_not_used_in_silence() -> None:
    manifest = Manifest(
        (SourceFile(path="a.jsonl", size=300, sha256="f"),), pieces={"a.jsonl": ("one", "two")}
    )
    with pytest.raises(ValueError, match="zip"):
        plan(manifest, [Source("a.jsonl", Path("a.jsonl"))], 100)


def test_the_plan_does_not_depend_on_the_order_in_which_a_node_lists_the_files() -> None:
    names = ["a.txt", "b.txt", "c.txt"]
    manifest = Manifest(tuple(SourceFile(path=name, size=60, sha256="") for name in names))
    sources = [Source(name, Path(name)) for name in names]
    assert plan(manifest, sources, 100) == plan(manifest, sources[::-1], 100)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.txt"])
def test_a_large_file_that_can_only_be_read_from_its_beginning_is_one_piece(name: str) -> None:
    """A cut through compressed bytes would make every later line garbage."""
    assert units({name: 900}, 100) == [[(name, 0, 0)]]


def test_the_last_piece_of_a_large_file_shares_its_unit_with_the_next_file() -> None:
    """It has 84 bytes, and not those of the whole file."""
    assert units({"c.jsonl": 250, "d.txt": 10}, 100) == [
        [("c.jsonl", 0, 83)],
        [("c.jsonl", 83, 166)],
        [("c.jsonl", 166, 250), ("d.txt", 0, 0)],
    ]

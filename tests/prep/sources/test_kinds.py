from __future__ import annotations

import pytest

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources.kinds import kind

ENTRY = DatasetEntry(summary="", license="")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "lines"),
        ("a.jsonl.zst", "lines"),
        ("a.json.gz", "lines"),
        ("a.txt", "text"),
        ("a.txt.gz", "text"),
        ("a.parquet", "parquet"),
        ("a.parquet.gz", None),
        ("a.jsonl.zstd", "lines"),
        ("a.txt.xz", "text"),
        ("a.jsonl.bz2", "lines"),
        ("a.csv", None),
        ("a.jsonl.lz4", None),
        ("a.md", None),
        ("A.JSONL.ZST", "lines"),
        ("zst", None),
    ],
)
def test_the_kind_is_the_names_end(name: str, expected: str | None) -> None:
    assert kind(name) == expected

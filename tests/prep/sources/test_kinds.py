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
        ("a.json.gz", "json"),
        ("a.txt", "text"),
        ("a.txt.gz", "text"),
        ("a.parquet", "parquet"),
        ("a.parquet.gz", None),
        ("a.jsonl.zstd", "lines"),
        ("a.txt.xz", "text"),
        ("a.jsonl.bz2", "lines"),
        ("a.csv", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.jsonl.lz4", "lines"),
        ("a.arrow", "arrow"),
        ("a.feather", "arrow"),
        ("a.arrow.zst", None),
        ("CC-MAIN.warc.wet.gz", "warc"),
        ("a.warc.gz", "warc"),
        ("a.md", None),
        ("A.JSONL.ZST", "lines"),
        ("zst", None),
    ],
)
def test_the_kind_is_the_names_end(name: str, expected: str | None) -> None:
    assert kind(name) == expected

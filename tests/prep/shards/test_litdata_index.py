from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.shards import litdata_index
from jobctl.prep.shards.format import read_meta
from tests.prep.shards.test_format import dataset


@pytest.mark.parametrize(("vocab_size", "dtype", "skipped"), [(1000, "<u2", 4), (100_000, "<i4", 2)])
def test_the_index_leads_litdatas_reader_to_the_tokens(
    tmp_path: Path, vocab_size: int, dtype: str, skipped: int
) -> None:
    """Its TokensLoader maps a chunk from byte 4 * (chunk_size + 2) on and reads blocks of ``dim`` tokens."""
    tokens = [[*range(1, 50), 0], [*range(50, 90), 0]]
    dataset(tmp_path / "d", tokens, vocab_size, val=[1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    meta = read_meta(tmp_path / "d")
    litdata_index.write(tmp_path / "d", meta)
    litdata_index.write(tmp_path / "d", meta)
    for split, expected in (("train", tokens), ("val", [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]])):
        folder = tmp_path / "d" / "litdata" / split
        chunks = json.loads((folder / "index.json").read_text())["chunks"]
        for chunk, ids in zip(chunks, expected, strict=True):
            found = np.memmap(folder / chunk["filename"], dtype, "r", offset=4 * (chunk["chunk_size"] + 2))
            assert found[: chunk["dim"]].tolist() == ids[skipped:]


def test_an_empty_shard_is_not_a_chunk(tmp_path: Path) -> None:
    dataset(tmp_path / "d", [[1, 2, 3, 4, 5, 0], []], 1000)
    assert len(litdata_index.index(read_meta(tmp_path / "d"), "train")["chunks"]) == 1


@pytest.mark.parametrize(
    ("vocab_size", "tokens", "chunks"), [(1000, 4, 0), (1000, 5, 1), (100_000, 2, 0), (100_000, 3, 1)]
)
def test_a_shard_that_the_skipped_bytes_would_use_up_is_no_chunk(
    tmp_path: Path, vocab_size: int, tokens: int, chunks: int
) -> None:
    """litdata skips eight bytes: four tokens of two bytes, two of four."""
    dataset(tmp_path / "d", [[*range(1, tokens), 0]], vocab_size)
    made = litdata_index.index(read_meta(tmp_path / "d"), "train")["chunks"]
    assert [chunk["dim"] for chunk in made] == [1] * chunks


def test_the_largest_chunk_of_all_splits_bounds_the_buffers(tmp_path: Path) -> None:
    dataset(tmp_path / "d", [[1, 2, 3, 4, 5, 0], [*range(1, 30), 0]], 1000, val=[1, 2, 3, 4, 5, 6, 0])
    content = litdata_index.index(read_meta(tmp_path / "d"), "val")
    assert content["config"]["chunk_bytes"] == 60
    assert [chunk["chunk_bytes"] for chunk in content["chunks"]] == [14]


def test_a_data_set_that_was_moved_still_leads_to_its_shards(tmp_path: Path) -> None:
    dataset(tmp_path / "d", [[1, 2, 3, 4, 5, 0]], 1000)
    litdata_index.write(tmp_path / "d", read_meta(tmp_path / "d"))
    (tmp_path / "d").rename(tmp_path / "moved")
    link = tmp_path / "moved" / "litdata" / "train" / "train-0.bin"
    assert link.is_symlink()
    assert link.read_bytes() == (tmp_path / "moved" / "train-0.bin").read_bytes()

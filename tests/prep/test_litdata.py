from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep import litdata
from jobctl.prep.shards.format import read_meta

from .shards.test_format import dataset


@pytest.mark.parametrize(("vocab_size", "dtype", "skipped"), [(1000, "<u2", 4), (100_000, "<i4", 2)])
def test_the_index_leads_litdatas_reader_to_the_tokens(
    tmp_path: Path, vocab_size: int, dtype: str, skipped: int
) -> None:
    """Its TokensLoader maps a chunk from byte 4 * (chunk_size + 2) on and reads blocks of ``dim`` tokens."""
    tokens = [[*range(1, 50), 0], [*range(50, 90), 0]]
    dataset(tmp_path / "d", tokens, vocab_size, val=[1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    meta = read_meta(tmp_path / "d")
    litdata.write(tmp_path / "d", meta)
    litdata.write(tmp_path / "d", meta)
    for split, expected in (("train", tokens), ("val", [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]])):
        folder = tmp_path / "d" / "litdata" / split
        chunks = json.loads((folder / "index.json").read_text())["chunks"]
        for chunk, ids in zip(chunks, expected, strict=True):
            found = np.memmap(folder / chunk["filename"], dtype, "r", offset=4 * (chunk["chunk_size"] + 2))
            assert found[: chunk["dim"]].tolist() == ids[skipped:]


def test_an_empty_shard_is_not_a_chunk(tmp_path: Path) -> None:
    dataset(tmp_path / "d", [[1, 2, 3, 4, 5, 0], []], 1000)
    assert len(litdata.index(read_meta(tmp_path / "d"), "train")["chunks"]) == 1

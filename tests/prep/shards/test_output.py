from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.output import Series, shard_name


def series(folder: Path, limit: int, count: int = 1) -> Series:
    return Series(folder, split="train", index=0, count=count, vocab_size=100, limit=limit)


def write(into: Series, *lengths: int) -> None:
    ids = np.concatenate([np.full(length, length, np.uint32) for length in lengths])
    into.write(ids, np.array(lengths), np.array(lengths) * 3)


def test_names_say_how_many_there_are() -> None:
    assert shard_name("train", 0, 1) == "train.bin"
    assert shard_name("train", 0, 1, 1, 3) == "train-00001-of-00003.bin"
    assert shard_name("val", 3, 64) == "val-00003-of-00064.bin"
    assert shard_name("val", 3, 64, 1, 2) == "val-00003-of-00064-part-01-of-02.bin"


def test_no_shard_is_larger_than_the_limit_and_documents_stay_whole(tmp_path: Path) -> None:
    with series(tmp_path, limit=20) as into:  # ten tokens
        write(into, 4, 6, 3)
        write(into, 7, 15, 1)
        shards = into.close()
    assert [(shard.tokens, shard.documents, shard.text_bytes) for shard in shards] == [
        (10, 2, 30), (10, 2, 30), (15, 1, 45), (1, 1, 3),
    ]  # fmt: skip
    assert [shard.file for shard in shards] == [f"train-0000{part}-of-00004.bin" for part in range(4)]
    ids = np.concatenate([np.fromfile(tmp_path / shard.file, "<u2") for shard in shards])
    assert ids.tolist() == [n for n in (4, 6, 3, 7, 15, 1) for _ in range(n)]


def test_nothing_is_left_where_the_block_raises(tmp_path: Path) -> None:
    with series(tmp_path, limit=10) as into, pytest.raises(UserError, match="token id 100"):
        write(into, 4, 4, 4, 100)
    assert list(tmp_path.iterdir()) == []


def test_no_document_is_an_empty_shard(tmp_path: Path) -> None:
    with series(tmp_path, limit=10) as into:
        (shard,) = into.close()
    assert (shard.file, shard.tokens) == ("train.bin", 0)

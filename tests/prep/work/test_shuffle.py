from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.shards.sorted_runs import run_file
from jobctl.prep.work import shuffle
from jobctl.prep.work.shuffle import RunWriter, gather, order_keys, shards_of
from tests.prep.conftest import MakeUnit, lines, some_texts
from tests.prep.work.test_unit import documents_of, finish


def test_keys_are_spread_evenly_and_no_two_documents_share_one() -> None:
    keys = np.concatenate([order_keys(7, unit, first, 5000) for unit in (0, 1) for first in (0, 5000)])
    assert len(np.unique(keys)) == 20_000
    counts = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16)
    assert counts.min() > 1100
    assert not np.array_equal(order_keys(8, 0, 0, 5), order_keys(7, 0, 0, 5))


def test_many_runs_become_one_order_of_whole_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Document n is n + 1 times the id n, so what is gathered can be told apart."""
    monkeypatch.setattr(shuffle, "RUN_BYTES", 400)
    monkeypatch.setattr(shuffle, "GATHERED", 1000)
    runs, total = [], 0
    for unit in range(3):
        with RunWriter(tmp_path, index=unit, vocab_size=100, seed=5) as writer:
            for number in range(unit * 20, unit * 20 + 20):
                lengths = np.array([number + 1])
                writer.write(np.full(number + 1, number, np.uint32), lengths, lengths * 4)
                total += 2 * (number + 1)
            writer.close()
        runs += [run_file(tmp_path, unit, number) for number in range(writer.runs)]
    assert len(runs) > 3
    assert not list(tmp_path.glob(".*"))
    read: list[int] = []
    shards = [
        shard
        for index in range(2)
        for shard in gather(
            runs, tmp_path, split="train", index=index, count=2, size=total, vocab_size=100, limit=10**9,
            read=read.append,
        )
    ]  # fmt: skip
    ids = np.concatenate([np.fromfile(tmp_path / shard.file, "<u2") for shard in shards])
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    assert sorted(ids[starts].tolist()) == list(range(60))
    assert (np.diff(starts, append=len(ids)) == ids[starts] + 1).all()
    keys = np.concatenate([order_keys(5, unit, 0, 20) for unit in range(3)])
    assert ids[starts].tolist() == np.argsort(keys).tolist()
    assert sum(shard.documents for shard in shards) == 60
    assert sum(shard.text_bytes for shard in shards) == 2 * total
    assert sum(read) == total


def test_a_seed_shuffles_all_documents_over_all_shards(tmp_path: Path, unit_job: MakeUnit) -> None:
    folder, texts = tmp_path / "source", some_texts(400)
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jsonl").write_bytes(lines(texts[number * 100 : number * 100 + 100]))
    work = unit_job(folder, shard_bytes=10_000, shuffle=3, validation_share=0.0)
    finish(work, folder)
    found = documents_of(work.output, "train", work.encoders.reference._encoder)  # type: ignore[attr-defined]
    assert sorted(found) == sorted(texts)
    places = [texts.index(text) for text in found]
    assert len({place // 100 for place in places[:25]}) == 4
    assert sum(abs(b - a) for a, b in itertools.pairwise(places)) / len(places) > 100


@pytest.mark.parametrize(("size", "limit", "expected"), [(0, 10, 1), (10, 10, 1), (11, 10, 2), (100, 10, 12)])
def test_shards_are_not_planned_full(size: int, limit: int, expected: int) -> None:
    assert shards_of(size, limit) == expected

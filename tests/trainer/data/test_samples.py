import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import open_dataset, read_meta, write_meta
from jobctl.trainer.data.samples import (  # fmt: skip
    BatchLayout,
    Blocks,
    MicroBatches,
    Samples,
    document_ids,
    leave_signals_to_the_parent,
    micro_batches,
    open_samples,
)
from jobctl.trainer.options import Source
from tests.trainer.corpus import TINY, write_corpus

MODEL = msgspec.convert(TINY, ModelConfig)
TRAIN = TrainConfig(block_size=16)
OF_ORDER_1 = [(0, 7, 2324), (1, 20, 280), (0, 10, 1495), (0, 1, 1507), (1, 5, 425), (0, 11, 1683)]
"""(source, epoch, block) of the first samples of ``mixed``, as the version before order 2 drew them."""


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return open_samples([Source(write_corpus(tmp_path / "data"))], MODEL, TRAIN)


def test_a_label_is_the_token_after_and_blocks_do_not_overlap(tmp_path: Path) -> None:
    data = open_dataset(write_corpus(tmp_path / "data"))
    blocks = Blocks(data, 16)
    tokens = data.read(0, data.num_tokens)
    joined = np.concatenate([blocks[i][:-1] for i in range(len(blocks))])
    assert (joined == tokens[: len(joined)]).all()
    assert data.num_tokens - len(joined) <= 16
    assert all(blocks[i][-1] == tokens[(i + 1) * 16] for i in range(len(blocks)))


def test_no_block_is_repeated_within_an_epoch_and_each_epoch_has_its_order(samples: Samples) -> None:
    size = len(samples.sources[0])
    epochs = [[samples.locate(k)[2] for k in range(e * size, (e + 1) * size)] for e in range(3)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_sample_depends_on_fingerprint_seed_and_number_alone(samples: Samples, tmp_path: Path) -> None:
    again = open_samples([Source(tmp_path / "data")], MODEL, TRAIN)
    assert all((samples[k] == again[k]).all() for k in (0, 5, 999, 10**9))
    other_seed = Samples(samples.sources, [1.0], seed=1)
    assert [samples.locate(k) for k in range(50)] != [other_seed.locate(k) for k in range(50)]


@pytest.mark.parametrize(
    ("batch", "accumulation", "world"), [(2, 4, 1), (2, 2, 2), (2, 1, 4), (8, 1, 1), (1, 4, 2)]
)
def test_a_step_sees_the_same_samples_whatever_the_layout(batch: int, accumulation: int, world: int) -> None:
    for step in (0, 3):
        seen = [
            number
            for rank in range(world)
            for micro in range(accumulation)
            for number in BatchLayout(batch, accumulation, world, rank).numbers(
                100, step * accumulation + micro
            )
        ]
        assert sorted(seen) == list(range(100 + 8 * step, 108 + 8 * step))


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_change_nothing(samples: Samples, workers: int) -> None:
    batches = MicroBatches(samples, BatchLayout(2, 1, 2, 1), first=7)
    here = list(micro_batches(batches, 8, 0, pin_memory=False))
    there = list(micro_batches(batches, 8, workers, pin_memory=False))
    assert here[0].shape == (2, 17)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


SPARSE = 400_000_000
"""Bytes of a shard that takes no disk."""


def sparse_corpus(folder: Path) -> Path:
    """A data set of 400 MB of zeros, as holes."""
    write_corpus(folder)
    whole = read_meta(folder)
    train = msgspec.structs.replace(whole.shards[0], tokens=SPARSE // 2)
    os.truncate(folder / train.file, SPARSE)
    write_meta(folder, msgspec.structs.replace(whole, tokens=SPARSE // 2, shards=(train, *whole.shards[1:])))
    return folder


def own_memory(_: object = None) -> int:
    """Bytes that are this process's alone: the page cache behind a memory map is not among them."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class WithMemory(MicroBatches):
    """Instead of a batch, what the process that has read it holds."""

    def __getitem__(self, micro: int) -> torch.Tensor:
        super().__getitem__(micro)
        return torch.tensor(own_memory())


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_does_not_grow_with_the_data_that_is_read(tmp_path: Path, workers: int) -> None:
    source = Source(sparse_corpus(tmp_path / "data"))
    before = own_memory()
    samples = open_samples([source], MODEL, TrainConfig(block_size=1 << 16))
    batches = WithMemory(samples, BatchLayout(32, 1, 1, 0), first=0)
    epoch = SPARSE // 2 // (32 << 16)
    held = [int(memory) for memory in micro_batches(batches, 2 * epoch, workers, pin_memory=False)]
    assert max(held) - before < SPARSE / 4
    assert max(held[epoch:]) - max(held[:epoch]) < SPARSE / 20
    blocks = {samples.locate(number)[2] for number in range(32 * epoch)}
    assert len(blocks) * (2 << 16) > 0.98 * SPARSE  # it was all read


def test_a_worker_outlives_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        leave_signals_to_the_parent(0)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


@pytest.fixture
def mixed(tmp_path: Path) -> list[Source]:
    """A large and a small source; the small one has 437 blocks."""
    return [
        Source(write_corpus(tmp_path / "large", tokens=40_000, seed=1), 0.7),
        Source(write_corpus(tmp_path / "small", tokens=437 * 16 + 1, seed=2), 0.3),
    ]


@pytest.mark.parametrize("order", [1, 2])
def test_a_mixture_repeats_no_block_within_an_epoch_of_its_source(mixed: list[Source], order: int) -> None:
    mixture = open_samples(mixed, MODEL, TRAIN, order)
    drawn = [mixture.locate(number) for number in range(5000)]
    assert len(set(drawn)) == 5000  # (source, epoch, block)


def test_a_small_source_shows_every_block_before_it_repeats_one(mixed: list[Source]) -> None:
    mixture = open_samples(mixed, MODEL, TRAIN)
    located = [mixture.locate(number) for number in range(4000)]
    small = [(epoch, block) for source, epoch, block in located if source == 1]
    size = len(mixture.sources[1])
    assert size == 437
    assert sorted(block for _, block in small[:size]) == list(range(size))
    assert sorted(block for _, block in small[size : 2 * size]) == list(range(size))
    assert [epoch for epoch, _ in small] == sorted(epoch for epoch, _ in small)


def test_a_mixture_has_another_fingerprint_than_its_first_source(mixed: list[Source]) -> None:
    alone = open_samples(mixed[:1], MODEL, TRAIN)
    assert open_samples(mixed, MODEL, TRAIN).fingerprint != alone.fingerprint


def test_one_source_has_the_same_order_in_every_format(mixed: list[Source]) -> None:
    first = open_samples(mixed[:1], MODEL, TRAIN, 1)
    second = open_samples(mixed[:1], MODEL, TRAIN, 2)
    assert [first.locate(k) for k in range(6000)] == [second.locate(k) for k in range(6000)]


def test_a_run_of_the_first_format_keeps_its_order(mixed: list[Source]) -> None:
    located = [open_samples(mixed, MODEL, TRAIN, 1).locate(number) for number in range(6)]
    assert located == OF_ORDER_1


def test_an_order_of_a_later_version_is_refused_in_words(mixed: list[Source]) -> None:
    with pytest.raises(UserError, match="format 3; this version knows 1 to 2"):
        open_samples(mixed, MODEL, TRAIN, 3)


def test_an_id_that_the_vocabulary_lacks_is_named_with_its_sample_and_block(
    samples: Samples, tmp_path: Path
) -> None:
    shard = np.memmap(tmp_path / "data/train.bin", dtype="<u2", mode="r+")
    shard[16 * 5 + 3] = 60_000
    shard.flush()
    (number,) = (k for k in range(len(samples.sources[0])) if samples.locate(k)[2] == 5)
    batches = MicroBatches(samples, BatchLayout(1, 1, 1, 0), first=0)
    with pytest.raises(UserError, match=rf"sample {number} holds token id 60000.*block 5") as caught:
        batches[number]
    assert "prep.verify" in caught.value.hint
    assert batches[number + 1].shape == (1, 17)


def test_document_ids_change_after_each_end() -> None:
    tokens = torch.tensor([[5, 0, 6, 7, 0, 0, 8], [1, 2, 3, 4, 5, 6, 7]])
    assert document_ids(tokens, eos_id=0).tolist() == [[0, 0, 1, 1, 1, 2, 3], [0] * 7]


def test_data_that_does_not_fit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    wide = write_corpus(tmp_path / "wide", vocab=300)
    with pytest.raises(UserError, match=r"300 ids .* only 256"):
        open_samples([Source(wide)], MODEL, TRAIN)
    with pytest.raises(UserError, match="too few"):
        open_samples([Source(write_corpus(tmp_path / "a"))], MODEL, TrainConfig(block_size=5000))
    with pytest.raises(UserError, match="different tokenizers: bytes and other"):
        open_samples(
            [Source(tmp_path / "a"), Source(write_corpus(tmp_path / "b", tokenizer="other"))], MODEL, TRAIN
        )


def test_truncated_or_absent_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_samples([Source(tmp_path / "nothing")], MODEL, TRAIN)
    data = write_corpus(tmp_path / "data")
    os.truncate(data / "train.bin", 100)
    with pytest.raises(UserError, match="truncated"):
        open_samples([Source(data)], MODEL, TRAIN)

"""Put any number of documents in random order, by an external sort.

The key is a hash of the seed and the place.

Tokenizing a unit makes sorted runs of documents instead of shards. Each shard of the result is a range of
hashes, gathered from all runs a few megabytes at a time. The order is uniform over the whole data set, and
depends only on the seed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from jobctl.jobs.core.durable import partial_path
from jobctl.prep.shards.format import Ids, Shard, checked, numpy_dtype, token_dtype
from jobctl.prep.shards.output import Series
from jobctl.prep.shards.sorted_runs import Columns, edges, places, run_file, write_run

RUN_BYTES = 1 << 30
RUN_DOCUMENTS = 1 << 21
"""The most bytes of tokens and the most documents in a run.

A run is sorted through the file that was just written.
"""
GATHERED = 1 << 25
"""Bytes of tokens that are sorted in memory at once."""
FULL = 0.9
"""The planned fill of a shard. Hashes divide the documents only about equally, so some room is left."""
Read = Callable[[int], None]


def mixed(values: Columns) -> Columns:
    """Apply SplitMix64's finalizer (Steele, Lea and Flood, 2014), a bijection of 64 bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def order_keys(seed: int, unit: int, first: int, count: int) -> Columns:
    """Return the keys of ``count`` documents of a unit from number ``first`` on. All keys of a job differ."""
    # 40 bits for the documents of a unit leave 24 for the units.
    numbers = np.arange(first, first + count, dtype=np.uint64) + np.uint64(unit << 40)
    # The seed is also mixed: the numbers 1 and 2 differ in two bits only.
    return mixed(mixed(numbers) ^ mixed(np.array([seed], np.uint64)))


class RunWriter:
    """Write the documents of one split of a unit as runs into ``folder``.

    If the block raises, leave no half run.
    """

    def __init__(self, folder: Path, *, index: int, vocab_size: int, seed: int) -> None:
        self._folder = folder
        self._index = index
        self._vocab_size = vocab_size
        self._seed = seed
        self._itemsize = numpy_dtype(token_dtype(vocab_size)).itemsize
        self.runs = 0
        self._first = 0
        self._lengths = list[npt.NDArray[np.int64]]()
        self._sizes = list[npt.NDArray[np.int64]]()
        self._plain, self._sorted = (
            partial_path(folder / f"{index:05d}.{kind}") for kind in ("plain", "sorted")
        )
        self._file = open(self._plain, "w+b")  # noqa: SIM115 - closed at the end of the block

    def write(self, ids: Ids, lengths: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> None:
        """Append documents: the joined ids, shape [tokens]; the tokens and the bytes of each, shape [documents]."""
        self._file.write(checked(ids, self._vocab_size, f"unit {self._index}").data)
        self._lengths.append(lengths)
        self._sizes.append(sizes)
        if self._file.tell() >= RUN_BYTES or sum(map(len, self._lengths)) >= RUN_DOCUMENTS:
            self._sort()

    def _sort(self) -> None:
        if not self._lengths:
            return

        lengths = np.concatenate(self._lengths)
        sizes = np.concatenate(self._sizes)
        keys = order_keys(self._seed, self._index, self._first, len(lengths))
        order = np.argsort(keys)
        ends = np.cumsum(lengths)
        # `pread` below reads the file itself, and not Python's buffer.
        self._file.flush()

        with open(self._sorted, "wb") as target:
            for begin, length in zip((ends - lengths)[order].tolist(), lengths[order].tolist(), strict=True):
                size = length * self._itemsize
                # It is read back from the file, which the kernel still holds in memory. A copy in Python
                # would double the worker's size.
                target.write(os.pread(self._file.fileno(), size, begin * self._itemsize))

            target.flush()
            os.fsync(target.fileno())

        # The ids are next to their index, under its name with another ending.
        path = run_file(self._folder, self._index, self.runs)
        os.replace(self._sorted, path.with_suffix(".bin"))
        columns = [keys[order], np.cumsum(lengths[order]), sizes[order]]
        # The index comes after the tokens: a run whose index exists is whole.
        write_run(path, np.stack([column.astype(np.uint64) for column in columns]))
        self.runs = self.runs + 1
        self._first = self._first + len(lengths)
        self._lengths = []
        self._sizes = []
        # The next run begins in the same file, so the file never holds more than one run.
        self._file.seek(0)
        self._file.truncate()

    def close(self) -> tuple[Shard, ...]:
        """Sort the rest. The shards are made later, so return none."""
        self._sort()
        return ()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            # Closing flushes, which fails again on a full disk.
            for path in (self._plain, self._sorted):
                path.unlink(missing_ok=True)


def shards_of(size: int, limit: int) -> int:
    """Return the number of shards of at most ``limit`` bytes that hold ``size`` bytes."""
    # A single shard is not divided by hashes, and may be filled to its limit.
    return 1 if size <= limit else math.ceil(size / (limit * FULL))


def slices(paths: Sequence[Path], bounds: list[int]) -> Iterator[list[tuple[Path, int, int]]]:
    """Yield, for each pair of neighbouring bounds, the rows between them in every run that has any."""
    cuts = [places(np.load(path, mmap_mode="r"), bounds) for path in paths]
    for piece in range(len(bounds) - 1):
        rows = ((path, cut[piece], cut[piece + 1]) for path, cut in zip(paths, cuts, strict=True))
        yield [(path, begin, end) for path, begin, end in rows if begin < end]


def in_order(
    parts: list[tuple[Path, int, int]], dtype: np.dtype[np.unsignedinteger]
) -> tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the documents of these slices sorted by key: the joined ids, the tokens of each, the bytes of each."""
    keys = []
    sizes = []
    texts = list[Ids]()

    for path, begin, end in parts:
        columns = np.load(path, mmap_mode="r")
        # The column holds ends, so a slice begins where the document before it ends.
        first = int(columns[1, begin - 1]) if begin else 0
        ends = columns[1, begin:end].astype(np.int64) - first
        ids = np.fromfile(path.with_suffix(".bin"), dtype, count=int(ends[-1]), offset=first * dtype.itemsize)
        texts += np.split(ids, ends[:-1])
        keys.append(columns[0, begin:end])
        sizes.append(columns[2, begin:end])

    # No two keys are equal, so the order does not depend on the order of the runs.
    order = np.argsort(np.concatenate(keys))
    chosen = [texts[index] for index in order]
    lengths = np.fromiter(map(len, chosen), np.int64, len(chosen))

    return np.concatenate(chosen), lengths, np.concatenate(sizes)[order].astype(np.int64)


def gather(
    runs: Sequence[Path],
    folder: Path,
    *,
    split: str,
    index: int,
    count: int,
    size: int,
    vocab_size: int,
    limit: int,
    read: Read,
) -> tuple[Shard, ...]:
    """Write shard ``index`` of ``count`` of a split with ``size`` bytes of tokens.

    ``read`` gets the bytes of each read.
    """
    dtype = numpy_dtype(token_dtype(vocab_size))
    bounds = edges(index, count, pieces=max(1, math.ceil(size / count / GATHERED)))
    with Series(folder, split=split, index=index, count=count, vocab_size=vocab_size, limit=limit) as series:
        for parts in slices(runs, bounds):
            if parts:
                ids, lengths, sizes = in_order(parts, dtype)
                series.write(ids, lengths, sizes)
                read(ids.nbytes)

        return series.close()

"""Write the documents of one unit into shards of bounded size.

They get their names when their number is known.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from jobctl.prep.shards.format import Ids, Shard, ShardWriter, numpy_dtype, token_dtype


def shard_name(split: str, index: int, count: int, part: int = 0, parts: int = 1) -> str:
    """Return ``train.bin`` for a single file, else ``train-00000-of-00064.bin``.

    A unit with several files has names like ``train-00003-of-00064-part-00-of-02.bin``.
    """
    # With a single unit its files are numbered as if they were units.
    if count == 1:
        index = part
        count = parts
        part = 0
        parts = 1

    if count == 1:
        return f"{split}.bin"

    suffix = f"-part-{part:02d}-of-{parts:02d}" if parts > 1 else ""

    return f"{split}-{index:05d}-of-{count:05d}{suffix}.bin"


class Series:
    """The shards of one split of unit ``index`` of ``count``.

    Each holds at most ``limit`` bytes, or one document.

    As a context manager it leaves nothing behind if the block raises.
    """

    def __init__(
        self, folder: Path, *, split: str, index: int, count: int, vocab_size: int, limit: int
    ) -> None:
        self._folder = folder
        self._split = split
        self._index = index
        self._count = count
        self._vocab_size = vocab_size
        self._room = limit // numpy_dtype(token_dtype(vocab_size)).itemsize
        self._writers = list[ShardWriter]()
        self._begin()

    def _begin(self) -> None:
        part = len(self._writers)
        path = self._folder / shard_name(self._split, self._index, self._count, part, part + 1)
        self._writers.append(ShardWriter(path, split=self._split, vocab_size=self._vocab_size))

    def write(self, ids: Ids, lengths: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> None:
        """Append documents: the joined ids, shape [tokens]; the tokens and the bytes of each, shape [documents]."""
        ends = np.cumsum(lengths)
        done = 0
        begin = 0

        while done < len(lengths):
            writer = self._writers[-1]
            fits = int(np.searchsorted(ends, begin + self._room - writer.tokens, side="right"))
            if fits <= done and writer.tokens:
                # It is not closed yet: the name of a shard has the number of all shards, which the last
                # document decides.
                writer.finish()
                self._begin()
                continue

            # A document is never divided, so one that is larger than the limit gets a shard of its own.
            fits = max(fits, done + 1)
            end = int(ends[fits - 1])
            writer.write(ids[begin:end], documents=fits - done, text_bytes=int(sizes[done:fits].sum()))
            done = fits
            begin = end

    def close(self) -> tuple[Shard, ...]:
        """Give the files their names, and return their records."""
        parts = len(self._writers)
        for part, writer in enumerate(self._writers):
            writer.path = self._folder / shard_name(self._split, self._index, self._count, part, parts)
        return tuple(writer.close() for writer in self._writers)

    def __enter__(self) -> Series:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # This also runs after a good end: a closed shard has its name by then, and stays.
        for writer in self._writers:
            writer.discard()

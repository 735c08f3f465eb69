"""What a data set holds: counts by split and by source, document lengths, and what was left out and why."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

FILE = "statistics.json"


class Count(msgspec.Struct):
    """``text_bytes`` are bytes of UTF-8; tokens include EOS and BOS."""

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0

    def add(self, other: Count) -> None:
        self.documents += other.documents
        self.tokens += other.tokens
        self.text_bytes += other.text_bytes


class Statistics(msgspec.Struct):
    """``lengths[k]`` are the documents of 2^k up to 2^(k+1) - 1 tokens."""

    splits: dict[str, Count] = {}
    by_source: dict[str, Count] = {}
    lengths: list[int] = []
    left_out: dict[str, int] = {}
    rejected: int = 0
    bytes_per_token: float = 0.0

    def see(
        self, split: str, labels: Sequence[str], tokens: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> None:
        """Count documents of one split: their labels, tokens and bytes, each shape [documents]."""
        self.splits.setdefault(split, Count()).add(Count(len(labels), int(tokens.sum()), int(sizes.sum())))
        names, index = np.unique(np.array(labels, dtype=object), return_inverse=True)
        for number, name in enumerate(names):
            mine = index == number
            count = Count(int(mine.sum()), int(tokens[mine].sum()), int(sizes[mine].sum()))
            self.by_source.setdefault(str(name), Count()).add(count)
        if len(tokens):
            found = np.bincount(np.frexp(np.maximum(tokens, 1))[1] - 1)
            self._lengthen(found.tolist())

    def _lengthen(self, found: list[int]) -> None:
        longest = max(len(found), len(self.lengths))
        pairs = zip(found + [0] * (longest - len(found)), self.lengths + [0] * longest, strict=False)
        self.lengths = [a + b for a, b in pairs]

    def add(self, other: Statistics) -> None:
        """Add another part's counts."""
        for mine, theirs in ((self.splits, other.splits), (self.by_source, other.by_source)):
            for name, count in theirs.items():
                mine.setdefault(name, Count()).add(count)
        for reason, number in other.left_out.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + number
        self._lengthen(other.lengths)
        self.rejected += other.rejected
        tokens = sum(count.tokens for count in self.splits.values())
        self.bytes_per_token = (
            round(sum(c.text_bytes for c in self.splits.values()) / tokens, 4) if tokens else 0.0
        )

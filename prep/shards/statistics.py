"""Statistics of a data set: counts by split and by source, document lengths, and left-out documents by reason."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

FILE = "statistics.json"


class Count(msgspec.Struct):
    """Counts of some documents. ``text_bytes`` are bytes of UTF-8. ``tokens`` include EOS and BOS.

    ``lengths[k]`` is the number of documents with 2^k to 2^(k+1) - 1 tokens.
    """

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    lengths: list[int] = []

    def add(self, other: Count) -> None:
        self.documents += other.documents
        self.tokens += other.tokens
        self.text_bytes += other.text_bytes
        longest = max(len(other.lengths), len(self.lengths))
        pairs = (part + [0] * (longest - len(part)) for part in (other.lengths, self.lengths))
        self.lengths = [a + b for a, b in zip(*pairs, strict=True)]


def counted(tokens: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Count:
    """Return the counts of documents with these tokens and bytes each, both of shape [documents]."""
    # frexp returns the exponent of a number between 1/2 and 1, which is one more than the logarithm rounded
    # down.
    lengths = np.bincount(np.frexp(tokens)[1] - 1).tolist() if len(tokens) else []
    return Count(len(tokens), int(tokens.sum()), int(sizes.sum()), lengths)


class Statistics(msgspec.Struct):
    """Counts of kept documents (all, by split and by source), of left-out ones by reason, and of broken lines.

    ``control_tokens`` are ids of strings such as ``<think>`` in the texts.
    """

    total: Count = msgspec.field(default_factory=Count)
    splits: dict[str, Count] = {}
    by_source: dict[str, Count] = {}
    left_out: dict[str, int] = {}
    rejected: int = 0
    control_tokens: int = 0
    bytes_per_token: float = 0.0

    def see(
        self, split: str, labels: Sequence[str], tokens: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> None:
        """Count documents of one split: their labels, tokens and bytes, each shape [documents]."""
        count = counted(tokens, sizes)
        self.total.add(count)
        self.splits.setdefault(split, Count()).add(count)

        for name in set(labels):
            is_named = np.fromiter((label == name for label in labels), np.bool_, len(labels))
            self.by_source.setdefault(name, Count()).add(counted(tokens[is_named], sizes[is_named]))

    def add(self, other: Statistics) -> None:
        """Add another part's counts."""
        self.total.add(other.total)
        for sums, terms in ((self.splits, other.splits), (self.by_source, other.by_source)):
            for name, count in terms.items():
                sums.setdefault(name, Count()).add(count)

        for reason, number in other.left_out.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + number

        self.rejected += other.rejected
        self.control_tokens += other.control_tokens
        self.bytes_per_token = round(self.total.text_bytes / max(self.total.tokens, 1), 4)

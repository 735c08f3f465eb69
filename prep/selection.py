"""Which documents are kept, how often, and in which split: a function of the document's own text.

The hash of a document is XXH3-128 (seed 0) of its text in UTF-8. Its upper 64 bits, as a fraction of 2^64,
put the document into validation when they are below ``validation_share``; its lower 64 bits decide fractional
weights. Neither knows the tokenizer or the order, so equal documents are always in the same split, whatever
prepares them.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from prep.documents import Batch
from prep.encoders import UNBROKEN, cuts
from prep.job import Job

SPLITS = ("train", "val")
HALF = 1 << 64


def document_hash(text: bytes) -> int:
    """128 bits."""
    return xxhash.xxh3_128_intdigest(text)


def is_validation(digest: int, share: float) -> bool:
    return (digest >> 64) < share * HALF


def copies(digest: int, weight: float) -> int:
    """How often a document of this weight is written; the fraction's toss is the document's own."""
    whole = int(weight)
    return whole + ((digest & (HALF - 1)) < (weight - whole) * HALF)


class Chosen(NamedTuple):
    """Documents of one split; a label is "" where there is no source field, sizes are bytes of UTF-8."""

    split: str
    texts: list[str]
    labels: list[str]
    digests: list[int]
    sizes: list[int]


class Selection:
    """The filters of a job; counts what it leaves out, by reason."""

    def __init__(self, job: Job) -> None:
        self.entry, self.config = job.entry, job.config
        self.left_out: collections.Counter[str] = collections.Counter()

    def reason(self, text: str, language: str) -> str:
        """Why the document is left out for what it is; empty: it is not."""
        entry = self.entry
        if len(text) < entry.min_characters:
            return "short"
        if entry.max_characters and len(text) > entry.max_characters:
            return "long"
        if entry.languages and language not in entry.languages:
            return "language"
        if len(text) > UNBROKEN and cuts(text) is None:
            return "unbroken"
        return ""

    def kept(self, batch: Batch) -> Iterator[tuple[str, str]]:
        """Text and label of each document that the filters keep."""
        labels = batch.labels or [""] * len(batch.texts)
        languages = batch.languages or [""] * len(batch.texts)
        for text, label, language in zip(batch.texts, labels, languages, strict=True):
            reason = self.reason(text, language)
            if reason:
                self.left_out[reason] += 1
            else:
                yield text, label

    def choose(self, batch: Batch) -> list[Chosen]:
        """The batch's documents of each split, in their order. Validation has every document once."""
        splits = {split: Chosen(split, [], [], [], []) for split in SPLITS}
        for text, label in self.kept(batch):
            data = text.encode()
            digest = document_hash(data)
            validation = is_validation(digest, self.entry.validation_share)
            times = 1 if validation else copies(digest, self.config.weights.get(label, 1.0))
            if not times:
                self.left_out["weight"] += 1
            chosen = splits["val" if validation else "train"]
            for _ in range(times):
                chosen.texts.append(text)
                chosen.labels.append(label)
                chosen.digests.append(digest)
                chosen.sizes.append(len(data))
        return [chosen for chosen in splits.values() if chosen.texts]

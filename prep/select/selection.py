"""Decide for each document if it is kept, how often it is written, and in which split.

The decision depends only on its text.

The hash of a document is XXH3-128 (seed 0) of its identity in UTF-8. The identity is the same for all texts
that a model cannot tell apart. The upper 64 bits are a fraction of 2^64: below ``validation_share`` the
document is in validation. If the source has its own validation files, they are the split instead. The lower
64 bits decide fractional weights. Documents with the same hash are exact duplicates. The tokenizer and the
order have no influence, so the split is the same for all of them.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.prep.encode.encoder import PART
from jobctl.prep.encode.identity import Identity, text_identity, with_plain_spaces
from jobctl.prep.encode.look import Look, look
from jobctl.prep.select.duplicates import Repeated
from jobctl.prep.select.language import language_of
from jobctl.prep.sources.batches import Batch

SPLITS = ("train", "val")
HALF = 1 << 64
Halves = npt.NDArray[np.uint64]
NO_HALVES: Halves = np.empty(0, np.uint64)


def document_hash(text: bytes) -> int:
    """Return 128 bits."""
    return xxhash.xxh3_128_intdigest(text)


def is_validation(digest: int, share: float) -> bool:
    return (digest >> 64) < share * HALF


def copies(digest: int, weight: float) -> int:
    """Return how often a document of this weight is written. Its own hash decides about the fraction."""
    whole = int(weight)
    # The lower half is used, because the upper one has already decided about the split.
    return whole + ((digest & (HALF - 1)) < (weight - whole) * HALF)


class Document(NamedTuple):
    """A document that is written ``times`` times.

    ``label`` is "" without a source field, ``size`` is bytes of UTF-8.

    ``look`` has no UTF-8 of a long text, which encoders take in parts.
    """

    text: str
    look: Look
    label: str
    digest: int
    size: int
    split: str
    times: int


class Chosen(NamedTuple):
    """Documents of one split, and how often each is written."""

    split: str
    documents: list[Document]

    @property
    def texts(self) -> list[str]:
        return [document.text for document in self.documents]

    @property
    def looks(self) -> list[Look]:
        return [document.look for document in self.documents]


MOST_NAMES = 1000
"""Labels or languages to remember, for an error message that names the nearest one."""


class Evidence(msgspec.Struct, kw_only=True):
    """Labels and languages of the documents before any filter. They show if the user's names match any."""

    documents: int = 0
    labelled: int = 0
    with_language: int = 0
    labels: set[str] = set()
    languages: set[str] = set()

    def see(self, batch: Batch) -> None:
        self.documents += len(batch.texts)
        self.labelled += sum(map(bool, batch.labels))
        self.with_language += sum(map(bool, batch.languages))
        self._remember(batch.labels, batch.languages)

    def add(self, other: Evidence) -> None:
        self.documents += other.documents
        self.labelled += other.labelled
        self.with_language += other.with_language
        self._remember(other.labels, other.languages)

    def _remember(self, labels: Iterable[str], languages: Iterable[str]) -> None:
        if len(self.labels) < MOST_NAMES:
            self.labels |= set(labels) - {""}
        if len(self.languages) < MOST_NAMES:
            self.languages |= set(languages) - {""}


class Selection:
    """The filters of a job. It counts the documents that it leaves out, by reason."""

    def __init__(
        self,
        entry: DatasetEntry,
        config: PrepConfig,
        repeated: Repeated | None = None,
        held_out: Halves = NO_HALVES,
        identity: Identity = text_identity,
    ) -> None:
        """``repeated``: the documents of this unit that are left out as duplicates.

        ``held_out``: upper halves of the hashes of the source's own validation split, sorted, shape
        [documents].
        """
        self.entry = entry
        self.config = config
        self.repeated = repeated
        self._held_out = held_out
        self._identity = identity
        self.left_out: collections.Counter[str] = collections.Counter()
        self._tells = bool(entry.languages) and not entry.language_field
        self.evidence = Evidence()
        self._kept = 0

    def reason(self, text: str, language: str) -> str:
        """Return the reason why the document itself is left out, or an empty text if it is kept."""
        entry = self.entry
        if len(text) < entry.min_characters:
            return "short"

        # The cheap checks come first: the language costs the most.
        if entry.max_characters and len(text) > entry.max_characters:
            return "long"

        if entry.languages and (language_of(text) if self._tells else language) not in entry.languages:
            return "language"

        return ""

    def document(self, text: str, label: str, is_from_validation: bool = False) -> Document:
        """Return the document with its split and the number of its copies.

        Validation has every document once.

        ``is_from_validation`` is True for a document of the source's own validation files.
        """
        seen = look(text)
        size = len(seen.data)
        digest = document_hash(self._identity_of(text, seen))
        # The encoders take a long text in parts, and its bytes would only fill memory.
        if len(text) > PART:
            seen = seen._replace(data=b"", nfc="")

        share = 0.0 if self.entry.validation_files else self.entry.validation_share
        if is_from_validation or is_validation(digest, share):
            return Document(text, seen, label, digest, size, "val", 1)

        times = copies(digest, self.config.weights.get(label, 1.0)) if self.config.weights else 1

        return Document(text, seen, label, digest, size, "train", times)

    def _identity_of(self, text: str, seen: Look) -> bytes:
        if self._identity is not text_identity:
            return self._identity(text)

        # Facts of the look are not computed again.
        return seen.data if seen.is_identity else with_plain_spaces(seen.nfc or text).encode()

    def is_held_out(self, document: Document) -> bool:
        """Return True if a training document is also in the source's own validation split."""
        if document.split == "val" or not len(self._held_out):
            return False

        # `holding_out` has kept only the upper halves.
        half = np.uint64(document.digest >> 64)
        place = int(np.searchsorted(self._held_out, half))
        return place < len(self._held_out) and bool(self._held_out[place] == half)

    def kept(self, batch: Batch, is_from_validation: bool = False) -> list[Document]:
        """Return the documents that filters and weights keep. Duplicates are removed later."""
        # The evidence also counts documents that are left out.
        self.evidence.see(batch)
        labels = batch.labels or [""] * len(batch.texts)
        languages = batch.languages or [""] * len(batch.texts)
        kept = []

        for text, label, language in zip(batch.texts, labels, languages, strict=True):
            reason = self.reason(text, language)
            if not reason:
                document = self.document(text, label, is_from_validation)
                reason = "in validation" if self.is_held_out(document) else ""
                # With a weight below 1 some documents are written 0 times.
                if document.times and not reason:
                    kept.append(document)
                    continue

                reason = reason or "weight"

            self.left_out[reason] += 1

        return kept

    def choose(self, batch: Batch, is_from_validation: bool = False) -> list[Chosen]:
        """Return the batch's documents of each split, in their order."""
        documents = self.kept(batch, is_from_validation)
        repeated = self.repeated.reasons(self._kept, len(documents)) if self.repeated else {}
        self.left_out.update(repeated.values())
        splits = {split: Chosen(split, []) for split in SPLITS}

        # Duplicates were numbered among the documents that the filters keep, so the count continues over
        # batches.
        for number, document in enumerate(documents, self._kept):
            if number not in repeated:
                splits[document.split].documents.append(document)

        self._kept += len(documents)

        return [chosen for chosen in splits.values() if chosen.documents]

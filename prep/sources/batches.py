"""Batches of documents, and the lines that are none: the form in which every reader gives its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources.origins import Source

BLOCK = 4 << 20
"""Bytes of text read at once, about."""
LONGEST = 48 << 20
"""Bytes of the longest line or document that is taken: the bound on memory. Longer ones are rejected."""


class Batch(NamedTuple):
    """Texts; and the label and the language of each, or empty lists where the catalogue names no field."""

    texts: list[str]
    labels: list[str]
    languages: list[str]


class Broken(NamedTuple):
    """A line that is not a document: why, and where (line from 1, byte offset once decompressed)."""

    file: str
    line: int
    offset: int
    reason: str
    sample: str


class Piece(NamedTuple):
    """Bytes [start, stop) of a source; ``stop`` 0 is the whole file. A line belongs to where it starts."""

    source: Source
    start: int = 0
    stop: int = 0


Report = Callable[[Broken], None]
Seen = Callable[[int], None]


def whole_text(data: bytes) -> str:
    """UTF-8 text; what is not UTF-8 becomes U+FFFD, as with ``open(errors="replace")``."""
    return data.decode("utf-8", errors="replace")


class Fields:
    """Which fields of a record hold what: the text at its top, label and language also further in."""

    def __init__(self, entry: DatasetEntry) -> None:
        self.text = entry.text_field
        self.label = entry.source_field.split(".") if entry.source_field else []
        self.language = entry.language_field.split(".") if entry.language_field else []
        self.roots = sorted({path[0] for path in (self.label, self.language) if path})
        definitions: list[Any] = [("text", str), *((f"root{i}", Any, None) for i in range(len(self.roots)))]
        names = {"text": self.text, **{f"root{i}": name for i, name in enumerate(self.roots)}}
        self.record = msgspec.defstruct("Record", definitions, rename=names, gc=False)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.record)

    def _followed(self, records: list[Any], path: list[str]) -> list[str]:
        if not path:
            return []
        root = f"root{self.roots.index(path[0])}"
        found = []
        for record in records:
            value = getattr(record, root)
            for step in path[1:]:
                value = value.get(step) if isinstance(value, dict) else None
            found.append("" if value is None else str(value))
        return found

    def batch(self, records: list[Any]) -> Batch:
        texts = [record.text for record in records]
        return Batch(texts, self._followed(records, self.label), self._followed(records, self.language))

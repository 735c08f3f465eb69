"""Batches of documents, and the lines that are none: the form in which every reader gives its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources.listing import Source

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


def without_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Fields:
    """Which fields of a record hold what: the text at its top, label and language also further in."""

    def __init__(self, entry: DatasetEntry) -> None:
        self.text = entry.text_field
        self.label = entry.source_field.split(".") if entry.source_field else []
        self.language = entry.language_field.split(".") if entry.language_field else []
        self.roots = sorted({path[0] for path in (self.label, self.language) if path})

        root_names = {f"root{number}": name for number, name in enumerate(self.roots)}
        definitions: list[Any] = [("text", str | None), *((root, Any, None) for root in root_names)]
        names = {"text": self.text, **root_names}
        self.record = msgspec.defstruct("Record", definitions, rename=names, gc=False)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.record)

    def record_of(self, value: Any) -> Any:
        """Return the record of a parsed line. Raises ValueError that says why it is no document."""
        if not isinstance(value, dict):
            raise ValueError(f"it is {json_type(value)}, not a JSON object")

        if self.text not in value:
            raise ValueError(f"it has no field '{self.text}'; its fields: {', '.join(list(value)[:20])}")

        text = value[self.text]
        if text is not None and not isinstance(text, str):
            raise ValueError(f"its field '{self.text}' is {json_type(text)}, not text")

        roots = [json.dumps(value.get(name), ensure_ascii=False) for name in self.roots]
        clean_roots = [json.loads(without_surrogates(root)) for root in roots]

        return self.record(None if text is None else without_surrogates(text), *clean_roots)

    def _followed(self, records: list[Any], path: list[str]) -> list[str]:
        if not path:
            return []

        root = f"root{self.roots.index(path[0])}"
        values = []

        for record in records:
            value = getattr(record, root)
            for step in path[1:]:
                value = value.get(step) if isinstance(value, dict) else None

            values.append("" if value is None else str(value))

        return values

    def batch(self, records: list[Any]) -> Batch:
        """Return the documents of records. A text that is null is an empty one."""
        texts = [record.text or "" for record in records]
        return Batch(texts, self._followed(records, self.label), self._followed(records, self.language))


JSON_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def json_type(value: Any) -> str:
    """Return what JSON calls a value."""
    return JSON_TYPES.get(type(value), "null")

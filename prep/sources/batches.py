"""Batches of documents, and broken lines. Every reader returns its file in this form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources.listing import Source

BLOCK = 4 << 20
"""About the number of bytes that are read in one call."""
LONGEST = 48 << 20
"""The longest line or document in bytes. It bounds the memory; longer ones are rejected."""


class Batch(NamedTuple):
    """Texts, with the label and the language of each.

    A list is empty if the catalogue names no field for it.
    """

    texts: list[str]
    labels: list[str]
    languages: list[str]


class Broken(NamedTuple):
    """A line that is not a document, with its place and the reason.

    Lines count from 1. The offset is in bytes after decompression.
    """

    file: str
    line: int
    offset: int
    reason: str
    sample: str


class Piece(NamedTuple):
    """Bytes [start, stop) of a source.

    ``stop`` 0 is the whole file. A line belongs to the piece in which it begins.

    ``sha256`` is the hash of these bytes. It is empty for a whole file, whose hash is in the manifest.
    """

    source: Source
    start: int = 0
    stop: int = 0
    sha256: str = ""


Report = Callable[[Broken], None]
Seen = Callable[[int], None]


def whole_text(data: bytes) -> str:
    """Return UTF-8 as text. Bytes that are not UTF-8 become U+FFFD, as with ``open(errors="replace")``."""
    return data.decode("utf-8", errors="replace")


def without_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate."""
    # This goes through UTF-16, which joins two matching halves to one character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Fields:
    """The fields of a record with its text, label and language. Each may be nested (``meta.text``)."""

    def __init__(self, entry: DatasetEntry) -> None:
        self.text = entry.text_field
        self.text_path = entry.text_field.split(".")
        self.label = entry.source_field.split(".") if entry.source_field else []
        self.language = entry.language_field.split(".") if entry.language_field else []
        self.roots = sorted({path[0] for path in (self.label, self.language) if path})

        roots: list[Any] = [(f"root{number}", Any, None) for number in range(len(self.roots))]
        names = {f"root{number}": name for number, name in enumerate(self.roots)}
        # gc=False: the records hold no cycles, and Python's collector would visit all of them again and
        # again.
        self.record = msgspec.defstruct("Record", [("text", str | None), *roots], gc=False)

        # The type that a line is parsed as. It is the record itself, except for a nested text.
        self._is_nested = len(self.text_path) > 1
        if self._is_nested and self.text_path[0] in self.roots:
            self._text_root = f"root{self.roots.index(self.text_path[0])}"
            line = msgspec.defstruct("Line", roots, rename=names, gc=False)
        else:
            self._text_root = "text"
            text_type: Any = Any if self._is_nested else str | None
            names["text"] = self.text_path[0]
            line = msgspec.defstruct("Line", [("text", text_type), *roots], rename=names, gc=False)

        self._lines: msgspec.json.Decoder[Any] = msgspec.json.Decoder(line)

    def decoded_lines(self, data: memoryview) -> list[Any]:
        """Return the records of JSON lines. Raises msgspec.DecodeError if one of them is not a document."""
        lines: list[Any] = self._lines.decode_lines(data)
        return [self._unnested(line) for line in lines] if self._is_nested else lines

    def decoded(self, data: bytes) -> Any:
        """Return the record of one line. Raises msgspec.DecodeError if it is not a document."""
        line = self._lines.decode(data)
        return self._unnested(line) if self._is_nested else line

    def _unnested(self, line: Any) -> Any:
        text = getattr(line, self._text_root)
        for step in self.text_path[1:]:
            if not isinstance(text, dict) or step not in text:
                raise msgspec.ValidationError(f"it has no field '{self.text}'")

            text = text[step]

        if text is not None and not isinstance(text, str):
            raise msgspec.ValidationError(f"its field '{self.text}' is {json_type(text)}, not text")

        return self.record(text, *(getattr(line, f"root{number}") for number in range(len(self.roots))))

    def text_of(self, value: dict[str, Any]) -> Any:
        """Return the text of a parsed line. Raises ValueError that names its fields.

        A field whose own name has dots wins over a nested one.
        """
        if self.text in value:
            return value[self.text]

        inner: Any = value
        for step in self.text_path:
            if not isinstance(inner, dict) or step not in inner:
                names = ", ".join(nested_names(value)[:20])
                raise ValueError(f"it has no field '{self.text}'; its fields: {names}")

            inner = inner[step]

        return inner

    def record_of(self, value: Any) -> Any:
        """Return the record of a parsed line. Raises ValueError with the reason why it is not a document."""
        if not isinstance(value, dict):
            raise ValueError(f"it is {json_type(value)}, not a JSON object")

        text = self.text_of(value)
        if text is not None and not isinstance(text, str):
            raise ValueError(f"its field '{self.text}' is {json_type(text)}, not text")

        # This goes through JSON, so that texts at any depth are cleaned.
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
        """Return the documents of records. A text that is null becomes an empty text."""
        texts = [record.text or "" for record in records]
        return Batch(texts, self._followed(records, self.label), self._followed(records, self.language))


def nested_names(value: object, prefix: str = "") -> list[str]:
    """Return the dotted names of all fields in a JSON value."""
    names: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            names += [prefix + name, *nested_names(inner, f"{prefix}{name}.")]

    return names


JSON_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def json_type(value: Any) -> str:
    """Return the name that JSON has for a value."""
    return JSON_TYPES.get(type(value), "null")

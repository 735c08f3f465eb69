"""The kind of a file, by the end of its name."""

from __future__ import annotations

from pathlib import Path

COMPRESSIONS = (".zst", ".zstd", ".gz", ".xz", ".bz2", ".lz4")
READABLE = (
    ".jsonl, .ndjson, .json, .txt, .csv, .tsv, .warc, each also as .zst, .zstd, .gz, .xz, .bz2 or .lz4; "
    ".parquet, .arrow, .feather"
)
KINDS = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "json",
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".warc": "warc",
    ".wet": "warc",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
TABLES = ("parquet", "arrow")
"""Kinds whose reader moves to any place of the file. So they are not packed as a whole."""
CUT = ("lines", "json")
"""Kinds whose large files are read in pieces by several tasks."""


def compression(name: str) -> str:
    """Return the ending of a compressed file's name, such as ``.zst``, or an empty text."""
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")


def kind(name: str) -> str | None:
    """Return the kind of a file by the end of its name, or None if prep does not read it.

    ``lines`` has one JSON object in each line. ``json`` may also be an array, or objects over several lines.
    """
    name = name.lower()
    packed = compression(name)
    bare_kind = KINDS.get(Path(name.removesuffix(packed)).suffix)
    return None if packed and bare_kind in TABLES else bare_kind

"""What a file holds, by the end of its name."""

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
"""Kinds that are read at any place of the file, and so are not packed as a whole."""
CUT = ("lines", "json")
"""Kinds of which a large file is read in pieces by several tasks."""


def compression(name: str) -> str:
    """Return ``.zst``, ``.gz`` or whatever a compressed file's name ends with; empty for others."""
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")


def kind(name: str) -> str | None:
    """Return the kind of a file by the end of its name. None: prep does not read it.

    ``lines`` is a JSON object a line; ``json`` may also be an array, or objects over several lines.
    """
    name = name.lower()
    packed = compression(name)
    bare_kind = KINDS.get(Path(name.removesuffix(packed)).suffix)
    return None if packed and bare_kind in TABLES else bare_kind

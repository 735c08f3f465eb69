"""What a file holds, by the end of its name."""

from __future__ import annotations

from pathlib import Path

COMPRESSIONS = (".zst", ".zstd", ".gz", ".xz", ".bz2")
READABLE = ".jsonl, .ndjson, .json, .txt, each also as .zst, .zstd, .gz, .xz or .bz2; .parquet"
KINDS = {".jsonl": "lines", ".ndjson": "lines", ".json": "lines", ".txt": "text", ".parquet": "parquet"}


def compression(name: str) -> str:
    """Return ``.zst``, ``.gz`` or whatever a compressed file's name ends with; empty for others."""
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")


def kind(name: str) -> str | None:
    """``lines`` (a JSON object a line), ``text`` or ``parquet``, by the name's end; None: not ours."""
    name = name.lower()
    packed = compression(name)
    found = KINDS.get(Path(name.removesuffix(packed)).suffix)
    return None if packed and found == "parquet" else found

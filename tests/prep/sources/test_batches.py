from __future__ import annotations

import json
from pathlib import Path

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.sources.batches import Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import Source
from tests.prep.sources.reading import described, write


def test_labels_and_languages_come_from_nested_fields(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "meta": {"set": "books", "lang": {"id": "en"}}},
        {"text": "b"},
        {"text": "c", "meta": 3},
    ]
    path = write(tmp_path / "a.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    entry = DatasetEntry(summary="", license="", source_field="meta.set", language_field="meta.lang.id")
    (batch,) = read(Piece(Source("a.jsonl", path)), entry, described(path), print, lambda size: None)
    assert batch.labels == ["books", "", ""]
    assert batch.languages == ["en", "", ""]

"""Every raw result is the evidence of a page or the data of a test; superseded ones are removed."""

from __future__ import annotations

import json
import re
from pathlib import Path

TOP = Path(__file__).parents[2]
RESULTS = sorted(path.name for path in (TOP / "bench/results").iterdir())


def cited() -> set[str]:
    """Return the names of results in the pages and in the tests."""
    files = [*TOP.joinpath("docs").rglob("*.md"), *TOP.joinpath("tests").rglob("*.py"), TOP / "README.md"]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return {
        name for text in texts for name in re.findall(r"[a-z0-9-]+-20\d\d-\d\d-\d\d[a-z0-9-]*\.json", text)
    }


def test_each_result_is_cited_by_its_whole_name() -> None:
    assert [name for name in RESULTS if name not in cited()] == []


def test_each_cited_result_is_kept() -> None:
    assert len(RESULTS) > 20
    assert sorted(cited() - set(RESULTS)) == []


def test_each_result_is_json() -> None:
    for name in RESULTS:
        assert json.loads((TOP / "bench/results" / name).read_text(encoding="utf-8")), name

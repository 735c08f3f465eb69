from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core.layout import dataset_dir, preparation_file
from jobctl.jobs.runs.preparation import read_preparation, summary
from jobctl.jobs.runs.store import Run

FACTS = {
    "state": "tokenizing", "share": 0.25, "tasks": 8, "tasks_done": 2, "tokens": 3_000_000,
    "tokens_per_second": 1_500_000.0, "seconds_left": 90.0,
}  # fmt: skip


def run_of(root: Path, kind: str = "prep") -> Run:
    spec = {
        "kind": kind,
        "target": "local",
        "site": {"root": str(root)},
        "inputs": {"dataset": "a", "tokenizer": "b"},
    }
    return Run("r", root / "runs" / "r", {"spec": spec}, ())


def test_a_prep_run_shows_how_far_it_is(tmp_path: Path) -> None:
    file = preparation_file(dataset_dir(tmp_path, "a", "b"))
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FACTS))
    found = read_preparation(run_of(tmp_path))
    assert found
    assert FACTS.items() <= msgspec.to_builtins(found).items()
    assert summary(found) == "tokenizing: 25.0%, 2/8 tasks, 3.0 M tokens, 1.5 M/s, 90 s left"
    assert read_preparation(run_of(tmp_path, "train")) is None


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"state": 1}'])
def test_nothing_is_shown_before_there_is_something(tmp_path: Path, text: str | None) -> None:
    file = preparation_file(dataset_dir(tmp_path, "a", "b"))
    if text is not None:
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert read_preparation(run_of(tmp_path)) is None

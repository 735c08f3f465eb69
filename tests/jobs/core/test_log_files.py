"""Which files of a run are its logs."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.core.log_files import log_names


def test_a_run_that_has_not_begun_has_none(tmp_path: Path) -> None:
    assert log_names(tmp_path) == []


def test_logs_are_known_by_their_whole_name_and_kind(tmp_path: Path) -> None:
    folder = layout.metrics_dir(tmp_path)
    folder.mkdir()
    ours = ["run_20260101-000000-000.jsonl", "run_20260101-000001-000.jsonl"]
    others = [
        "eval_20260101-000000-000.jsonl",
        "run_20260101-000000-000.jsonl.bak",
        "copy of run_20260101-000000-000.jsonl",
        "run_20260101-000000-000.json",
        "run_2026.jsonl",
    ]
    for name in [*reversed(ours), *others]:
        (folder / name).touch()

    assert log_names(tmp_path) == ours
    assert log_names(tmp_path, "eval") == ["eval_20260101-000000-000.jsonl"]

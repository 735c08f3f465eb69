from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from bench import document


@pytest.mark.parametrize("script", ["h200.py", "h200/__main__.py"])
def test_a_result_says_when_and_by_which_command_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/somewhere/bench/{script}", "--data", "two words"])
    document.save(tmp_path / "found.json", results=[1, 2])
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["date", "command", "results"]
    assert found["command"] == "python -m bench.h200 --data 'two words'"
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found["date"])
    assert 0 <= age.total_seconds() < 600
    assert found["results"] == [1, 2]


def test_a_result_of_today_is_named_after_the_day() -> None:
    path = document.of_today("cpu")
    assert path.parent == document.RESULTS
    assert datetime.strptime(path.name, "cpu-%Y-%m-%d.json")


def test_the_trainers_flags_stand_after_two_dashes() -> None:
    assert document.split_flags(["-o", "F", "--", "--x=1"]) == (["-o", "F"], ["--x=1"])
    assert document.split_flags(["-o", "F"]) == (["-o", "F"], [])

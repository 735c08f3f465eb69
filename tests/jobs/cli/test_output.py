"""Text for people, JSON for machines."""

from __future__ import annotations

import json
import threading

import pytest

from jobctl.jobs.cli import output
from jobctl.jobs.cli.output import emit, said_when_slow, table, warn
from jobctl.jobs.runs.store import Status


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = table(("A", "LONG"), [("wide cell", 1), ("x", "")])
    assert text.splitlines() == ["A          LONG", "wide cell  1", "x"]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(("A", "B"), []) == "A  B"


def test_facts_are_json_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(run="r", state="running", target="local")
    emit(status, True, "text")
    assert json.loads(capsys.readouterr().out)["state"] == "running"
    emit(status, False, "text")
    assert capsys.readouterr().out == "text\n"
    emit(status, False, "")
    assert capsys.readouterr().out == ""


def test_a_note_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    warn(["one", "two"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "jobctl: note: one\njobctl: note: two\n"


def test_work_that_takes_long_is_explained_and_quick_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()
    monkeypatch.setattr(output, "say", lambda *_, **__: said.set())
    with said_when_slow("waiting"):
        pass

    assert not said.is_set()
    monkeypatch.setattr(output, "SLOW_SECONDS", 0.0)
    with said_when_slow("waiting"):
        assert said.wait(30)

"""``jobctl tokenizer`` hands its work to prep in a process of its own, and leaves with its code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.cli import tokenizer as module
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def test_a_tokenizer_that_we_ship_is_made_without_a_network(jobctl: Invoke, root: Path) -> None:
    assert jobctl("tokenizer", "gpt2")[0] == 0
    made = json.loads((root / "tokenizers/gpt2/tokenizer.json").read_text(encoding="utf-8"))
    assert len(made["model"]["vocab"]) == 50257


def test_json_is_asked_for_in_the_process_that_fetches(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def done(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", done)
    assert jobctl("tokenizer", "gpt2", "--json")[0] == 0
    assert commands[0][-1] == "--json"


def test_an_unknown_name_gets_the_nearest_and_starts_nothing(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(module.subprocess, "run", no_process)
    code, _, err = jobctl("tokenizer", "gpt3")
    assert code == 2
    assert "did you mean 'gpt2'?" in err
    assert not root.exists()


def test_a_damaged_tokenizer_is_a_failure(jobctl: Invoke, root: Path) -> None:
    folder = root / "tokenizers/gpt2"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    assert jobctl("tokenizer", "gpt2")[0] == 2

"""The entry point: a verb's module is imported when it is called, and every end has an exit code."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest

from jobctl.jobs.cli import COMMANDS, GROUPS, invoke, jobctl


@pytest.mark.parametrize("name", COMMANDS)
def test_a_verb_is_where_the_table_says(name: str) -> None:
    module = importlib.import_module(f"jobctl.jobs.cli.{COMMANDS[name].module}")
    command = getattr(module, f"{name}_command")
    assert isinstance(command, click.Command)
    assert command.name == name


def test_a_verb_is_in_one_group_alone() -> None:
    assert len(COMMANDS) == sum(len(group) for group in GROUPS.values())
    assert jobctl.list_commands(click.Context(jobctl)) == list(COMMANDS)


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; from jobctl.jobs.cli import invoke; invoke(['--help']); "
        "print([m for m in sys.modules if m.startswith('jobctl.jobs.cli.') or m == 'yaml'])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["--version"], 0), (["catalog", "list"], 0)])
def test_what_works_leaves_with_0(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(words) == code
    assert capsys.readouterr().out


def test_no_words_print_the_help_and_leave_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 2
    assert "Usage: jobctl" in capsys.readouterr().err


def test_a_verb_that_is_interrupted_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(jobctl, "main", interrupted)
    assert invoke(["list"]) == 130

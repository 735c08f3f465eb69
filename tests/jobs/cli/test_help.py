"""``jobctl --help``: every verb, in groups, with a summary that is not cut off."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from jobctl.jobs.cli import COMMANDS, GROUPS, jobctl


def shown(*words: str) -> str:
    result = CliRunner().invoke(jobctl, [*words, "--help"], prog_name="jobctl", terminal_width=80)
    assert result.exit_code == 0
    return result.output


def test_no_summary_is_cut_off_in_a_terminal_of_80_columns() -> None:
    lines = shown().splitlines()
    assert not [line for line in lines[1:] if line.endswith("...")]
    for name, command in COMMANDS.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.endswith(command.summary)
        assert len(line) <= 80


def test_the_verbs_stand_in_groups() -> None:
    text = shown()
    places = [text.index(f"{title}:") for title in GROUPS]
    assert places == sorted(places)
    assert sum(len(commands) for commands in GROUPS.values()) == len(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_explains_itself(name: str) -> None:
    text = shown(name)
    assert f"Usage: jobctl {name}" in text
    assert len(text.splitlines()) > 4


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from jobctl.jobs.cli import invoke; invoke(['--help']);"
        "sys.exit(sorted(m for m in sys.modules if m.startswith('jobctl.jobs.cli.')) != [])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0

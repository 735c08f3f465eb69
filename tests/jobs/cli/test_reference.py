"""``docs/cli.md`` is what the commands say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from jobctl.jobs.cli import COMMANDS, jobctl
from jobctl.jobs.cli.reference import reference

PAGE = Path(__file__).parents[3] / "docs/cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run make docs, and commit docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_with_all_of_its_options(name: str) -> None:
    command = jobctl.get_command(click.Context(jobctl), name)
    assert command is not None
    (section,) = re.findall(rf"^### jobctl {name}\n(.*?)(?=^##|\Z)", reference(), re.M | re.S)
    options = [word for option in command.params if isinstance(option, click.Option) for word in option.opts]
    assert [word for word in options if not re.search(rf"{word}(?![\w-])", section)] == []


def test_a_command_below_a_command_has_a_section() -> None:
    page = reference()
    assert "### jobctl catalog show\n" in page
    assert "jobctl catalog show [OPTIONS] NAME" in page


def test_a_bar_does_not_begin_another_cell() -> None:
    """An escaped bar shows its backslash in code, so a page has none either."""
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.count("|") != 3] == []


def test_the_words_that_an_option_takes_follow_its_meaning() -> None:
    assert (
        "| `--dtype` | Type of the ids in files without an index. One of `uint16`, `uint32`. |" in reference()
    )

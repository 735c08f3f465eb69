"""The reference of all commands, ``docs/cli.md``: made from the commands themselves by ``make docs``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from jobctl.jobs.cli import GROUPS, jobctl

HEAD = """\
# Commands

`make docs` writes this page from the commands; do not edit it. `jobctl COMMAND --help` prints the same.

Exit codes: 0, it worked; 1, it did not; 2, the command line or a file is wrong. `jobctl wait` and `--wait` leave with
the code of the job.
"""

_CHOICES = re.compile(r" \[([^]|]+(?:\|[^]|]+)+)\]")
"""The possible words of an option, as click writes them: ``[finished|failed]``."""


def reference() -> str:
    """Return the page as Markdown: the commands in the groups of ``jobctl --help``, each with its options."""
    context = click.Context(jobctl, info_name="jobctl")
    parts = [HEAD]
    for title, commands in GROUPS.items():
        parts.append(f"## {title}\n")
        for name in commands:
            # This imports the command's module. The page needs all modules, `--help` none.
            command = jobctl.get_command(context, name)
            assert command is not None
            parts += _sections(command, context, name)

    return "\n".join(parts)


def _sections(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    """Yield the sections of a command and of each command below it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield _section(command, context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            subcommand = command.get_command(context, below)
            assert subcommand is not None
            yield from _sections(subcommand, context, below)


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    # `\b` is click's mark of a paragraph that keeps its lines.
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = [option for option in command.params if isinstance(option, click.Option)]
    rows = [_row(record) for option in options if (record := option.get_help_record(context))]
    lines = [f"### {context.command_path}", "", text, "", "```text", usage, "```", ""]
    if rows:
        lines += ["| option | meaning |", "| --- | --- |", *rows, ""]

    return "\n".join(lines)


def _row(record: tuple[str, str]) -> str:
    """Return a row of a Markdown table."""
    option, meaning = (" ".join(text.split()) for text in record)
    # A bar would begin another cell, and an escaped bar looks bad in code. So the choices follow the meaning.
    if choices := _CHOICES.search(option):
        option = _CHOICES.sub("", option)
        names = ", ".join(f"`{name}`" for name in choices[1].split("|"))
        meaning = f"{meaning} One of {names}."

    assert "|" not in option + meaning, option
    return f"| `{option}` | {meaning} |"


if __name__ == "__main__":
    print(reference(), end="")

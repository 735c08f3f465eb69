"""``jobctl``: one verb, one meaning, on every target. A command's module is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

import click

import jobs
from jobs.catalog.errors import UserError, run_command

COMMANDS = {
    "render": "jobs.cli.submit",
    "submit": "jobs.cli.submit",
    "pipeline": "jobs.cli.pipeline",
    "explain": "jobs.cli.explain",
    "status": "jobs.cli.status",
    "list": "jobs.cli.status",
    "describe": "jobs.cli.describe",
    "logs": "jobs.cli.follow",
    "wait": "jobs.cli.follow",
    "cancel": "jobs.cli.control",
    "resume": "jobs.cli.control",
    "collect": "jobs.cli.collect",
    "catalog": "jobs.cli.catalog",
    "tokenizer": "jobs.cli.tokenizer",
    "lint": "jobs.cli.lint",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[name]), f"{name}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from jobs.catalog.errors import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UserError(
                f"unknown command '{args[0]}'; {nearest(args[0], COMMANDS)}", hint="jobctl --help"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(jobs.__version__, prog_name="jobctl")
def jobctl() -> None:
    """Pre-train language models on Slurm, Kubernetes, Docker or this machine."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point: what a user did wrong becomes a message and an exit code, never a traceback."""
    run_command(lambda: invoke(arguments), "jobctl")


def invoke(arguments: list[str] | None) -> int:
    """Do what the command line says; the exit code of what click itself has to say of it."""
    try:
        jobctl.main(arguments, prog_name="jobctl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return 130
    return 0

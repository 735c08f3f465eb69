"""``jobctl``: one verb, one meaning, on every target. A command's module is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

import click

from jobctl import __version__
from jobctl.jobs.core.errors import UserError, run_command

COMMANDS = {
    "render": "jobctl.jobs.cli.submit",
    "submit": "jobctl.jobs.cli.submit",
    "pipeline": "jobctl.jobs.cli.pipeline",
    "explain": "jobctl.jobs.cli.explain",
    "status": "jobctl.jobs.cli.status",
    "list": "jobctl.jobs.cli.status",
    "describe": "jobctl.jobs.cli.describe",
    "logs": "jobctl.jobs.cli.follow",
    "wait": "jobctl.jobs.cli.follow",
    "cancel": "jobctl.jobs.cli.control",
    "resume": "jobctl.jobs.cli.control",
    "collect": "jobctl.jobs.cli.collect",
    "catalog": "jobctl.jobs.cli.catalog",
    "tokenizer": "jobctl.jobs.cli.tokenizer",
    "lint": "jobctl.jobs.cli.lint",
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
        from jobctl.jobs.core.errors import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UserError(
                f"unknown command '{args[0]}'; {nearest(args[0], COMMANDS)}", hint="jobctl --help"
            )

        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jobctl")
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

"""``jobctl``: each verb means the same on every target. A command's module is imported when it is called."""

from __future__ import annotations

import importlib
import os
from typing import Any, NamedTuple, NoReturn

import click

from jobctl import __version__
from jobctl.jobs.core.errors import UserError, run_command

CLICKS_WORDS = {
    "is not a valid float range": "is not a number",
    "is not a valid float": "is not a number",
    "is not a valid integer range": "is not a whole number",
    "is not a valid integer": "is not a whole number",
}
"""Click's names of its types, the longer first, and our names for them."""


class Command(NamedTuple):
    """One verb: its module, and the line that ``jobctl --help`` shows for it."""

    module: str
    summary: str
    where_runs_are: bool = False
    """True if it acts on the login node, when the site names one for users of other machines.

    `collect`, `report` and `fit` write a file on this machine, and ask the login node themselves.
    """


GROUPS: dict[str, dict[str, Command]] = {
    "Start a job": {
        "submit": Command("submit", "Start a job and print the name of its run.", True),
        "pipeline": Command("pipeline", "Start all jobs from the text to an exported model.", True),
        "resume": Command("control", "Start another attempt of a run that has ended.", True),
    },
    "See a run": {
        "list": Command("listing", "List all runs, the newest last.", True),
        "status": Command("status", "Show the state of a run or a pipeline.", True),
        "describe": Command("describe", "Show everything that is known of a run.", True),
        "watch": Command("watch", "Follow runs in the terminal: loss, speed, time left.", True),
        "logs": Command("follow", "Print the log of a run; -f follows it.", True),
        "wait": Command("follow", "Wait until a run or a pipeline has ended.", True),
        "shell": Command("reach", "Open a shell beside a job of a cluster.", True),
        "forward": Command("reach", "Show TensorBoard of a run of a cluster here.", True),
    },
    "Judge a run": {
        "analyze": Command("analyze", "Show mean speed, memory, and time to the optimal tokens.", True),
        "doctor": Command("doctor", "Say what is wrong with a run or a machine, and why.", True),
        "sample": Command("sample", "Let a run write text.", True),
        "compare": Command("compare", "Show how settings and results of runs differ.", True),
        "report": Command("report", "Write one page with all figures of runs."),
        "exporter": Command("exporter", "Serve metrics of all runs to Prometheus.", True),
    },
    "End a run, or take it home": {
        "cancel": Command("control", "End the job of a run; --graceful saves it first.", True),
        "collect": Command("collect", "Copy the directory of a run to this machine."),
        "delete": Command("removal", "Remove runs, and say what that frees.", True),
        "prune": Command("removal", "Remove old or failed runs.", True),
    },
    "Look before you start": {
        "nodes": Command("nodes", "Show the GPUs of a cluster, and which are free.", True),
        "render": Command("submit", "Print the script or manifest of a job."),
        "estimate": Command("estimate", "Print memory, time and cost of a training."),
        "plan": Command("plan", "Print size, tokens and shape for a budget."),
        "fit": Command("fit", "Fit a scaling law to your own runs."),
        "sweep": Command("sweep", "Find the largest batch and the fastest setting.", True),
        "probe": Command("probe", "Measure how fast this machine is."),
        "explain": Command("explain", "Print every value of a job, and its origin."),
        "catalog": Command("catalog", "Show models, hardware, tiers, stages and sites."),
        "lint": Command("lint", "Find the usual mistakes in an sbatch script."),
        "tokenizer": Command("tokenizer", "Fetch a tokenizer and verify it.", True),
        "site": Command("site", "Write a site file for a cluster, and check it.", True),
        "config": Command("config", "Write the project file of this folder."),
        "data": Command("data", "Use token data that another program made.", True),
    },
}
"""The verbs, grouped by the aim of a user. A summary fits into a terminal of 80 columns."""
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
UNLISTED = {"over-ssh": Command("over_ssh", "Answer a jobctl on another machine.")}
"""Commands that no person types."""
WORDS = "jobctl.words"
"""The key under which a context keeps the command line as it was typed."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = COMMANDS.get(name) or UNLISTED.get(name)
        if entry is None:
            return None

        module = importlib.import_module(f"jobctl.jobs.cli.{entry.module}")
        command: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
        if entry.where_runs_are:
            # Imported here: login imports this module, and most verbs need neither login nor its imports.
            from jobctl.jobs.cli.login import where_runs_are

            command = where_runs_are(command, name)

        # Click's script for the shell sets it. Other calls do not load the sources of the completion.
        if "_JOBCTL_COMPLETE" in os.environ:
            from jobctl.jobs.cli.completion import complete

            complete(command)

        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs in their groups. No command's module is imported for it."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, command.summary) for name, command in commands.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from jobctl.jobs.core.errors import nearest

        # The words are kept before click parses them: a login node gets the same words.
        ctx.meta[WORDS] = tuple(args)
        # Click's own message does not suggest a similar command.
        if args and args[0] not in {*COMMANDS, *UNLISTED} and not args[0].startswith("-"):
            raise UserError(
                f"unknown command '{args[0]}'; {nearest(args[0], COMMANDS)}", hint="jobctl --help"
            )

        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jobctl")
def jobctl() -> None:
    """Pre-train language models on Slurm, Kubernetes, Docker or this machine."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line. A user's error becomes a message and an exit code, never a traceback."""
    run_command(lambda: invoke(arguments))


def invoke(arguments: list[str] | None, *, for_another: bool = False) -> int:
    """Run the command line. Return the exit code that click itself gives, for example 130 after Ctrl-C.

    ``for_another``: a user of another machine has typed it. It acts here, whatever the site's settings are.
    """
    try:
        # In its standalone mode click would print its errors in its own form, and exit.
        jobctl.main(arguments, prog_name="jobctl", standalone_mode=False, obj=for_another)
    # This comes before UsageError, its base class: its message is the whole help.
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "jobctl"
        raise UserError(in_plain_words(error.format_message()), hint=f"{command} --help") from None
    except click.ClickException as error:
        raise UserError(error.format_message(), code=error.exit_code) from None
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        # Click raises this for Ctrl-C. The code is 128 + SIGINT, as in run_command.
        return 130

    return 0


def in_plain_words(message: str) -> str:
    """Return a message of click without the names of click's types."""
    for theirs, ours in CLICKS_WORDS.items():
        message = message.replace(theirs, ours)

    return message

"""``jobctl compare``: compare runs."""

from __future__ import annotations

from pathlib import Path

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.output import emit, warn
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.analysis import analyse
from jobctl.jobs.monitoring.comparison import Member, compared, facts
from jobctl.jobs.monitoring.comparison_text import text
from jobctl.jobs.monitoring.opening import Opened, open_run


@click.command("compare")
@click.argument("runs", metavar="RUN RUN…", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_command(runs: tuple[str, ...], as_json: bool) -> None:
    """Show the settings that differ between runs, and whether the results differ.

    Runs that differ only in the seed are repeats. Their spread shows what is chance. jobctl compares the other runs
    with the first one.
    """
    if len(runs) < 2:
        raise UserError("a comparison needs at least two runs", hint="jobctl compare RUN RUN…")

    opened: dict[Path, Opened] = {}
    for word in runs:
        run = open_run(word, root())
        # The same run twice would look like a repeat without a spread.
        if opened.setdefault(run.path.resolve(), run) is not run:
            raise UserError(f"run '{word}' is named twice", hint="jobctl compare RUN RUN…, each run once")

    comparison = compared([_member(word, run) for word, run in zip(runs, opened.values(), strict=True)])
    emit(facts(comparison), as_json, text(comparison))


def _member(word: str, opened: Opened) -> Member:
    history = opened.history()
    warn(history.notes)
    if not history.steps:
        raise UserError(f"{opened.path}: no step in its log yet", hint=f"jobctl logs {word} -f", code=1)

    return Member(history, analyse(history, opened.records().attempts, goodput=opened.goodput()))

"""``jobctl analyze``: the guide's analysis of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.output import emit, say, warn
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.analysis import Analysis, analyse, different_sets, text
from jobctl.jobs.monitoring.opening import open_run


@click.command("analyze")
@click.argument("runs", metavar="RUN…", nargs=-1, required=True)
@click.option(
    "--skip", type=click.IntRange(0), help="Steps to leave out as warm-up.  [default: 50, at most 10%]"
)
@click.option(
    "--tokens",
    type=click.FloatRange(1),
    help="Length of the training to project.  [default: the catalogue's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def analyze_command(runs: tuple[str, ...], skip: int | None, tokens: float | None, as_json: bool) -> None:
    """Show means without the warm-up, the best MFU, memory, and the time to the optimal tokens.

    RUN is the name of a run, its directory, or a log of the guide's tools (run_*.json, or its folder).
    """
    analyses, refused = _analyses(runs, skip, tokens)
    warn([note] if (note := different_sets(analyses)) else [])
    facts = analyses[0] if len(runs) == 1 else analyses
    emit(facts, as_json, "\n\n".join(map(text, analyses)))
    if refused:
        sys.exit(refused[0].code)


def _analyses(
    runs: Sequence[str], skip: int | None, tokens: float | None
) -> tuple[list[Analysis], list[UserError]]:
    """Return the analyses, and the errors of the runs that have none. The errors are printed.

    Raises UserError if no run can be analysed.
    """
    analyses = []
    refused = []
    for word in runs:
        try:
            analyses.append(_analysis(word, root(), skip, tokens))
        except UserError as error:
            refused.append(error)

    if refused and not analyses:
        raise UserError(
            "\n".join(error.message for error in refused), hint=refused[0].hint, code=refused[0].code
        )

    for refusal in refused:
        say(f"jobctl: {refusal}", err=True)

    return analyses, refused


def _analysis(word: str, home: Path, skip: int | None, tokens: float | None) -> Analysis:
    opened = open_run(word, home)
    history = opened.history()
    records = opened.records()
    warn([*history.notes, *records.notes])

    return analyse(history, records.attempts, goodput=opened.goodput(), skip=skip, tokens=tokens)

"""``jobctl analyze``: the guide's analysis of runs."""

from __future__ import annotations

from pathlib import Path

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.output import emit, warn
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
    """Means without warm-up, the best MFU, memory, and how long the optimal tokens take.

    RUN is the name of a run, its directory, or a log of the guide's tools (run_*.json, or its folder).
    """
    analyses = [_analysis(word, root(), skip, tokens) for word in runs]
    warn([note] if (note := different_sets(analyses)) else [])
    facts = analyses[0] if len(analyses) == 1 else analyses
    emit(facts, as_json, "\n\n".join(map(text, analyses)))


def _analysis(word: str, home: Path, skip: int | None, tokens: float | None) -> Analysis:
    opened = open_run(word, home)
    history = opened.history()
    records = opened.records()
    warn([*history.notes, *records.notes])

    return analyse(history, records.attempts, goodput=opened.goodput(), skip=skip, tokens=tokens)

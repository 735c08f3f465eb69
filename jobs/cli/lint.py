"""``jobctl lint``: mistakes in a batch script, whoever wrote it."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from jobctl.jobs.cli.output import emit


@click.command("lint")
@click.argument("script", type=click.File("r"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint_command(script: TextIO, as_json: bool) -> None:
    """Find the usual mistakes in an sbatch SCRIPT (- for standard input); exits with 1 when there are any."""
    from jobctl.slurm.lint import lint

    findings = lint(script.read())
    text = "\n".join(f"{script.name}:{f.line}: {f.message}\n  {f.fix}" for f in findings)
    emit(findings, as_json, text or "nothing found")
    if findings:
        sys.exit(1)

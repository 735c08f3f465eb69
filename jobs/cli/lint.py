"""``jobctl lint``: find mistakes in any batch script."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from jobctl.jobs.cli.output import emit


@click.command("lint")
@click.argument("script", type=click.File("r", encoding="utf-8", errors="replace", lazy=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint_command(script: TextIO, as_json: bool) -> None:
    """Find the usual mistakes in an sbatch SCRIPT (- for standard input). Exit with 1 for errors and warnings."""
    from jobctl.slurm.lint import lint

    # Text files read \r\n as \n, but sbatch does not.
    if hasattr(script, "reconfigure"):
        script.reconfigure(newline="")

    findings = lint(script.read())
    text = "\n".join(
        f"{script.name}:{f.line}: {f.severity}: {f.message} [{f.rule}]\n  {f.fix}" for f in findings
    )
    emit(findings, as_json, text or "no mistakes")
    if any(finding.severity != "hint" for finding in findings):
        sys.exit(1)

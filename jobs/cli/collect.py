"""``jobctl collect``: copy a run directory to this host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.cli.output import emit


@click.command("collect")
@click.argument("run")
@place_options
@click.option(
    "--output", "-o", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Where to."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def collect_command(run: str, output: Path, as_json: bool, **place: Any) -> None:
    """Copy a run's directory here; called again, it goes on where it broke off."""
    from jobctl.jobs.submission import store_of

    chosen = find_run(run, Place(**place))
    counts = store_of(chosen).collect(chosen, output)
    words = ", ".join(f"{count} {noun}" for noun, count in counts.items() if count or noun == "files")
    emit({"run": run, "directory": str(output), **counts}, as_json, f"{run}: {words}, in {output}")
    if counts.get("refused"):
        sys.exit(1)

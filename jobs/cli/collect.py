"""``jobctl collect``: a run directory to this host, from a cluster's volume or from a shared root."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.cli.output import emit, warn
from jobctl.jobs.core.copying import copy_tree
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets import target
from jobctl.jobs.targets.protocol import Remote

NAMED = 5
"""Files left out that are named one by one."""


@click.command("collect")
@click.argument("run")
@place_options
@click.option(
    "--output", "-o", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Where to."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def collect_command(run: str, output: Path, as_json: bool, **place: Any) -> None:
    """Copy a run's directory here; called again, it goes on where it broke off."""
    found = find_run(run, Place(**place))
    scheduler = target(found.target)
    counts = scheduler.collect(found, output) if isinstance(scheduler, Remote) else _copy(found.path, output)
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count or kind == "files")
    emit({"run": run, "directory": str(output), **counts}, as_json, f"{run}: {words}, in {output}")
    if counts.get("refused"):
        sys.exit(1)


def _copy(source: Path, output: Path) -> Mapping[str, int]:
    """Copy a run directory that this host sees."""
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} is in the run directory itself", hint="name a folder elsewhere with -o")
    try:
        result = copy_tree(source, output)
    except OSError as error:
        raise UserError(f"{error.filename or output}: {error.strerror or error}", code=1) from None
    warn(f"left out: {reason}" for reason in result.skipped[:NAMED])
    if len(result.skipped) > NAMED:
        warn([f"left out: {len(result.skipped) - NAMED} more"])
    return {"files": result.files, "copied": result.copied, "skipped": len(result.skipped)}

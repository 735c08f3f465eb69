"""``jobctl collect``: a run directory from a cluster's volume to this host."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.cli.output import emit
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.protocol import Remote
from jobctl.jobs.targets.registry import load_target


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
    scheduler = load_target(found.target)
    counts = scheduler.collect(found, output) if isinstance(scheduler, Remote) else _copy(found.path, output)
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "files")
    emit({"run": run, "directory": str(output), **counts}, as_json, f"{run}: {words}, in {output}")


def _copy(source: Path, output: Path) -> dict[str, int]:
    """A run directory that this host sees."""
    if output.resolve() == source.resolve():
        raise UserError(f"{output} is the run directory itself")
    try:
        shutil.copytree(source, output, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise UserError(f"{output}: {error}", code=1) from None
    return {"files": sum(1 for path in output.rglob("*") if path.is_file())}

"""``jobctl config``: the project file ``jobctl.yaml``."""

from __future__ import annotations

from pathlib import Path

import click

from jobctl.jobs.catalog.entries import HardwareEntry, LayerEntry, ModelEntry
from jobctl.jobs.cli.choices import PROJECT_FILE
from jobctl.jobs.cli.output import emit
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import quote_yaml
from jobctl.jobs.spec.gathering import load_choice
from jobctl.jobs.targets import registry

COMMENTS = {
    "target": "where jobs run; --target on the command line overrides it",
    "site": "a site of the catalogue, or a file: jobctl site new --target slurm > mycluster.yaml",
    "hardware": "the node type",
    "model": "the model for commands that name none",
}
"""The comment next to each choice."""


@click.group("config")
def config_command() -> None:
    """Write the choices of a folder, for all commands in it."""


@config_command.command("init")
@click.option("--target", "-g", metavar="NAME", default=registry.DEFAULT, show_default=True)
@click.option("--site", metavar="NAME", help="Site of the catalogue, or a YAML file.")
@click.option("--hardware", metavar="NAME", help="Node type.")
@click.option("--model", "-m", metavar="NAME", help="Model of the catalogue, or a YAML file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(target: str, site: str | None, hardware: str | None, model: str | None, as_json: bool) -> None:
    """Write jobctl.yaml into this folder. An existing file does not change."""
    path = Path(PROJECT_FILE)
    if path.exists():
        raise UserError(f"{path} exists already", hint="edit it; jobctl explain shows the resulting values")

    # All names are checked first: a wrong name in the file would make each command of this folder fail.
    registry.target_entry(target)
    for kind, name, entry in (
        ("sites", site, LayerEntry),
        ("hardware", hardware, HardwareEntry),
        ("models", model, ModelEntry),
    ):
        if name:
            load_choice(kind, name, entry)

    choices = {"target": target, "site": site, "hardware": hardware, "model": model}
    write_whole(path, project_text(choices).encode())
    emit(
        {"file": str(path.absolute())},
        as_json,
        f"{path} is written; jobctl explain shows the resulting values",
    )


def project_text(choices: dict[str, str | None]) -> str:
    """Return the project file of ``choices``. Open choices are comments in it."""
    lines = ["# Defaults of jobctl in this folder. The command line overrides them."]
    for key, comment in COMMENTS.items():
        value = choices.get(key)
        line = f"{key}: {quote_yaml(value)}" if value else f"# {key}:"
        lines.append(f"{line:<40}# {comment}")

    lines += ["", "# Any key of jobctl explain --describe all:", "settings: {}", "#   time_limit: 24:00:00"]
    return "\n".join(lines) + "\n"

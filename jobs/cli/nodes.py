"""``jobctl nodes``."""

from __future__ import annotations

from typing import Any

import click

from jobctl.jobs.cli.choices import project_choices
from jobctl.jobs.cli.finding import Place, place_options
from jobctl.jobs.cli.output import emit, table, warn
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.resolution import load_site
from jobctl.jobs.targets.protocol import Capacity, ShowsNodes
from jobctl.jobs.targets.registry import load_target


@click.command("nodes")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nodes_command(as_json: bool, **place: Any) -> None:
    """Show the GPUs of a cluster, and how many of them are free."""
    chosen = Place(**place)
    project, layer = project_choices()
    name = chosen.target or project.target
    target = load_target(name)
    if not isinstance(target, ShowsNodes):
        raise UserError(f"target {name} has no list of nodes here", hint="--target k8s; on Slurm: sinfo")

    site = load_site(chosen.site or project.site, project=layer, named=chosen.keys)
    capacity = target.capacity(site)
    if not capacity.sees_all:
        warn(["only the jobs of your namespace are visible: others may use GPUs that are shown as free"])

    emit(capacity, as_json, capacity_table(capacity))


def capacity_table(capacity: Capacity) -> str:
    """Return one line for each node, and the sum."""
    if not capacity.nodes:
        return "no node offers GPUs under this name"

    rows = [(node.name, node.product, node.gpus, node.free, node.state) for node in capacity.nodes]
    total = sum(node.gpus for node in capacity.nodes)

    return table(("NODE", "GPU", "GPUS", "FREE", "STATE"), [*rows, ("all", "", total, capacity.free, "")])

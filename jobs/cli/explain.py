"""``jobctl explain``: every resolved value, and the layer that it came from."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.schema.keys import flat
from jobctl.jobs.cli.choices import ChoiceCommand, choice_options, resolution
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.cli.submit import announce
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.resolution import Resolution


def values_of(spec: JobSpec) -> dict[str, Any]:
    """Return every key of ``spec`` with its value; a key of a site's section is ``slurm.partition``."""
    sections: list[Any] = [spec.resources, spec.inputs]
    if isinstance(spec, TrainSpec):
        sections = [spec.model, spec.train, *sections]

    values = {key: value for section in sections for key, value in msgspec.to_builtins(section).items()}
    return values | flat(spec.site)


def derived_of(spec: JobSpec) -> dict[str, int]:
    """Numbers that follow from the settings."""
    if not isinstance(spec, TrainSpec):
        return {}

    return {
        "parameters": arithmetic.parameters(spec.model),
        "flops_per_token": arithmetic.flops_per_token(spec.model, spec.train.block_size),
        "world_size": spec.world_size,
        "global_batch_size": spec.global_batch_size,
        "tokens_per_step": spec.tokens_per_step,
        "tokens": spec.tokens_per_step * spec.train.max_iters,
    }


@click.command("explain", cls=ChoiceCommand)
@choice_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_command(as_json: bool, **options: Any) -> None:
    """Print every value of a job and the layer that it came from."""
    resolved = resolution(**options)
    announce(resolved)
    values = values_of(resolved.spec)
    facts = {key: {"value": value, "from": _origin(resolved, key)} for key, value in values.items()}
    derived = derived_of(resolved.spec)
    rows = [(key, _shown(fact["value"]), fact["from"]) for key, fact in facts.items()]
    rows += [(key, f"{value:,}", "arithmetic") for key, value in derived.items()]
    emit({"settings": facts, "derived": derived}, as_json, table(("KEY", "VALUE", "FROM"), rows))


def _origin(resolved: Resolution, key: str) -> str:
    return resolved.origins.get(key, "default")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if value not in ("", [], {}) else "-"

"""``jobctl explain``: show every resolved value, and the layer from which it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.schema.describing import describe
from jobctl.jobs.catalog.schema.keys import KEYS, flat, nearest_key, split_key
from jobctl.jobs.cli.choices import ChoiceCommand, choice_options, resolution
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.cli.submit import announce
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.resolution import Resolution


def values_of(spec: JobSpec) -> dict[str, Any]:
    """Return every key of ``spec`` with its value. A key of a site's section is like ``slurm.partition``."""
    sections: list[Any] = [spec.resources, spec.inputs]
    if isinstance(spec, TrainSpec):
        sections = [spec.model, spec.train, *sections]

    values = {key: value for section in sections for key, value in msgspec.to_builtins(section).items()}
    return values | flat(spec.site)


def derived_of(spec: JobSpec) -> dict[str, int]:
    """Return the numbers that follow from the settings."""
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
@click.option("--describe", "described", metavar="KEY", help="Show the meaning of a key, or of 'all' keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_command(described: str | None, as_json: bool, **options: Any) -> None:
    """Print every value of a job and the layer that it came from."""
    # This comes before a job is resolved: a key is described without a model.
    if described:
        _describe(described, as_json)
        return

    resolved = resolution(**options)
    announce(resolved)
    values = values_of(resolved.spec)
    facts = {key: {"value": value, "from": _origin(resolved, key)} for key, value in values.items()}
    derived = derived_of(resolved.spec)
    rows = [
        (place, _shown(value), fact["from"])
        for key, fact in facts.items()
        for place, value in _leaves(key, fact["value"])
    ]
    rows += [(key, f"{value:,}", "arithmetic") for key, value in derived.items()]
    estimated = estimated_of(resolved)
    rows += [(key, _shown(fact["value"]), fact["from"]) for key, fact in estimated.items()]
    document = {"settings": facts, "derived": derived, "estimated": estimated}
    emit(document, as_json, table(("KEY", "VALUE", "FROM"), rows))


def _leaves(place: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield the values in a setting with parts, such as kubernetes.pod, each with its place."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{place}.{key}", item)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(f"{place}[{number}]", item)
    else:
        yield place, value


def _describe(word: str, as_json: bool) -> None:
    """Print the meaning of one key, or of all keys."""
    if word == "all":
        every = [describe(key) for key in KEYS]
        rows = [(each.key, each.type, _shown(each.default), each.description) for each in every]
        emit(every, as_json, table(("KEY", "TYPE", "DEFAULT", "MEANING"), rows))
        return

    key = split_key(word)[0]
    if key not in KEYS:
        raise UserError(f"unknown key '{word}'; {nearest_key(word)}", hint="jobctl explain --describe all")

    chosen = describe(key)
    emit(chosen, as_json, f"{key}: {chosen.description}\n  {chosen.type}, default {_shown(chosen.default)}")


def estimated_of(resolved: Resolution) -> dict[str, dict[str, Any]]:
    """Return the estimate of a training, each figure with its source.

    Return nothing for other jobs.
    """
    from jobctl.jobs.cli.estimating import estimate_of

    made = estimate_of(resolved)
    if made is None:
        return {}

    memory = f"tensors counted at the {made.memory_moment.removeprefix('the ')}"
    time = f"{made.basis}: {made.rates_source}" if made.rates_source else "unknown: jobctl probe"
    return {
        "memory_gib": {"value": round(made.memory_gib["total"], 2), "from": memory},
        "needed_gib": {"value": round(made.needed_gib, 2), "from": "memory_gib, and CUDA and NCCL beside it"},
        "available_gib": {"value": round(made.available_gib, 2), "from": f"hardware {made.hardware}"},
        "largest_batch_size": {"value": made.largest_batch_size, "from": "memory_gib by bisection"},
        "step_seconds": {"value": _rounded(made.step_seconds), "from": time},
        "tokens_per_second": {
            "value": _rounded(made.tokens_per_second),
            "from": "tokens_per_step / step_seconds",
        },
    }


def _rounded(value: float | None) -> float | None:
    """Return ``value`` to four digits."""
    return None if value is None else float(f"{value:.4g}")


def _origin(resolved: Resolution, key: str) -> str:
    return resolved.origins.get(key, "default")


def _shown(value: object) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else str(value)
        if value not in ("", [], {}, None)
        else "-"
    )

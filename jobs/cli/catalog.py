"""``jobctl catalog``: show the entries that a user can choose."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import click
import msgspec

import jobctl
from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.data import DatasetEntry, TokenizerEntry
from jobctl.jobs.catalog.entries import FamilyEntry, ModelEntry
from jobctl.jobs.catalog.loader import (
    KINDS,
    entry_path,
    load_entry,
    load_hardware,
    load_layer,
    load_model,
    names,
)
from jobctl.jobs.cli.output import emit, table
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets import registry

ENTRIES: dict[str, type[Any]] = {
    "models": ModelEntry,
    "families": FamilyEntry,
    "datasets": DatasetEntry,
    "tokenizers": TokenizerEntry,
}


def _entry(kind: str, name: str) -> Any:
    if kind == "hardware":
        return load_hardware(name)
    return load_entry(kind, name, ENTRIES[kind]) if kind in ENTRIES else load_layer(kind, name)


@click.group("catalog")
def catalog_command() -> None:
    """Show models, hardware, tiers, stages, data sets, tokenizers and sites."""


@catalog_command.command("list")
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_entries(kind: str | None, as_json: bool) -> None:
    """List the entries of one kind, or of all kinds."""
    chosen = [(k, name, _entry(k, name).summary) for k in ([kind] if kind else KINDS) for name in names(k)]
    facts = [{"kind": k, "name": name, "summary": summary} for k, name, summary in chosen]
    emit(facts, as_json, table(("KIND", "NAME", "SUMMARY"), chosen))


@catalog_command.command("show")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), help="Kind of the entry, if several kinds have this name."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_entry(name: str, kind: str | None, as_json: bool) -> None:
    """Print one entry as a YAML file: copy it, change it, and pass it by its path."""
    kinds = [k for k in ([kind] if kind else KINDS) if name in names(k)]
    if not kinds:
        raise UserError(f"no entry '{name}'; {nearest(name, [n for k in KINDS for n in names(k)])}")

    facts: dict[str, Any] = {"name": name, "kind": kinds[0], **msgspec.to_builtins(_entry(kinds[0], name))}
    counts = model_facts(name) if kinds[0] == "models" else {}
    emit(facts | counts, as_json, shown(kinds[0], name, counts))


def shown(kind: str, name: str, counts: Mapping[str, object]) -> str:
    """Return the unchanged file of an entry, after comments with its kind and its derived figures."""
    path = entry_path(kind, name)
    comments = [f"# {KINDS[kind]} {name}, from {path}"]
    comments += [f"# {key}: {f'{n:,}' if isinstance(n, int) else n}" for key, n in counts.items()]
    text = path.read_text(encoding="utf-8").rstrip("\n")

    return "\n".join([*comments, text])


def model_facts(name: str) -> dict[str, Any]:
    """Return the counts of a model at its own sequence length."""
    model = load_model(name)
    # 2048 is the default of the schema. A recipe need not repeat it.
    length = int(model.train.get("block_size", 2048))
    count = arithmetic.parameters(model.config)

    return {
        "parameters": count,
        "parameters_in_words": f"{count / 1e9:.2f}B" if count > 1e8 else f"{count / 1e6:.2f}M",
        "matmul_parameters": arithmetic.matmul_parameters(model.config),
        "sequence_length": length,
        "flops_per_token": arithmetic.flops_per_token(model.config, length),
        "flops_per_token_causal": arithmetic.flops_per_token_causal(model.config, length),
    }


@catalog_command.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_entries(as_json: bool) -> None:
    """Read every entry and resolve every combination of them."""
    # The combinations below do not use every data set and tokenizer, so all files are read.
    for kind in KINDS:
        for name in names(kind):
            _entry(kind, name)

    combinations = itertools.product(
        names("models"), names("hardware"), names("tiers"), names("stages"), names("sites"), registry.names()
    )
    count = 0

    for model, hardware, tier, stage, site, target in combinations:
        choices = Choices(
            model=model,
            hardware=hardware,
            tier=int(tier),
            stage=stage,
            site=site,
            target=target,
            # Hardware that runs none of jobctl's images is still valid.
            named={"image": "example.org/image:1"},
        )
        resolve(choices, version=jobctl.__version__)
        count += 1

    entries = sum(len(names(kind)) for kind in KINDS)
    emit(
        {"entries": entries, "combinations": count},
        as_json,
        f"{entries} entries, {count} combinations: all valid",
    )

"""``jobctl plan``: find the size, the tokens and the shape for a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from jobctl.jobs.cli.output import emit, say, table

if TYPE_CHECKING:
    from jobctl.jobs.scaling.law import Law
    from jobctl.jobs.scaling.rules import Advice
    from jobctl.jobs.scaling.search import Candidate, Ranked, Wish

FAMILIES = ("gpt2", "llama2", "llama3", "qwen3")


@click.command("plan")
@click.option("--flops", type=float, metavar="N", help="Budget of the whole training, such as 1.36e21.")
@click.option("--tokens", type=float, metavar="N", help="Tokens of the training.")
@click.option("--params", "parameters", type=float, metavar="N", help="Parameters of the model.")
@click.option("--ratio", type=float, metavar="N", help="Tokens a parameter, such as 20.")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Choice(FAMILIES),
    help="Families to search.  [default: all]",
)
@click.option(
    "--fit", "law_name", default="besiroglu_2024", show_default=True, help="A scaling law, or a YAML file."
)
@click.option(
    "--block-size", type=click.IntRange(min=1), default=2048, show_default=True, help="Tokens a sequence."
)
@click.option("--count", type=click.IntRange(min=1), default=8, show_default=True, help="Shapes to show.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write the iso-FLOP valley as SVG.")
@click.option(
    "--write", "entry", type=click.Path(path_type=Path), help="Write the best shape as a model's YAML."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan_command(
    families: tuple[str, ...],
    law_name: str,
    count: int,
    picture: Path | None,
    entry: Path | None,
    as_json: bool,
    **wished: Any,
) -> None:
    """Print the compute-optimal size, and the shapes with the lowest predicted loss."""
    from jobctl.jobs.scaling.law import load_law
    from jobctl.jobs.scaling.search import Wish, ranked

    law = load_law(law_name)
    wish = Wish(**wished)
    shapes = _search(families or FAMILIES, law, wish, count)
    order = ranked([each for _, each in shapes], law)
    names = [name for name, _ in shapes]
    said = _advice(order)
    # The page comes before the files: a file that cannot be written must not hide it.
    emit(_facts(law, wish, names, order, said), as_json, _page(law, wish, names, order, said))
    _write_files(law, wish, shapes, picture, entry)


def _search(families: tuple[str, ...], law: Law, wish: Wish, count: int) -> list[tuple[str, Candidate]]:
    """Return the best shapes over all families, each with the name of its family."""
    from jobctl.jobs.core.errors import UserError
    from jobctl.jobs.scaling.architectures import architectures, template
    from jobctl.jobs.scaling.search import distinct, search

    shapes: list[tuple[str, Candidate]] = []
    for family in families:
        candidates = search(architectures(template(family)), law, wish)
        shapes += [(family, each) for each in distinct(candidates, count)]

    if not shapes:
        raise UserError(
            f"no shape of {', '.join(families)} matches",
            hint="choose another --params or --ratio, or leave out one of them",
        )

    # `count` shapes of each family were kept: the best ones may all be of one family.
    return sorted(shapes, key=lambda shape: shape[1].loss)[:count]


def _advice(order: list[Ranked]) -> tuple[Advice, ...]:
    """Return the advice of the rules for the best shape."""
    from jobctl.jobs.catalog import arithmetic
    from jobctl.jobs.scaling.rules import advice

    best = order[0].candidate
    return advice(arithmetic.parameters_without_tables(best.model), best.tokens, best.flops)


def _facts(
    law: Law, wish: Wish, names: list[str], order: list[Ranked], said: tuple[Advice, ...]
) -> dict[str, Any]:
    from jobctl.jobs.scaling.law import optimum

    best = msgspec.to_builtins(optimum(law, wish.flops)) if wish.flops else None
    shapes = [
        {
            "family": name,
            "parameters": each.candidate.parameters,
            "tokens": each.candidate.tokens,
            "flops": each.candidate.flops,
            "flops_per_token": each.candidate.flops_per_token,
            "loss": each.candidate.loss,
            "behind": each.behind,
            "error": each.error,
            "tie": each.tie,
            "model": msgspec.to_builtins(each.candidate.model),
        }
        for name, each in zip(names, order, strict=True)
    ]

    return {"law": law.summary, "optimum": best, "shapes": shapes, "advice": msgspec.to_builtins(said)}


def _page(law: Law, wish: Wish, names: list[str], order: list[Ranked], said: tuple[Advice, ...]) -> str:
    from jobctl.jobs.scaling.law import optimum
    from jobctl.jobs.scaling.rules import doubt

    lines = [f"law: {law.summary}"]
    if wish.flops:
        best = optimum(law, wish.flops)
        lines.append(
            f"{wish.flops:.4g} FLOPs buy, at 6·N·D: {best.parameters / 1e9:.4g}B parameters and "
            f"{best.tokens / 1e9:.4g}B tokens ({best.ratio:.1f} a parameter), loss {best.loss:.4f}"
        )

    lines += ["", "shapes, by exact FLOPs:", _table(names, order)]
    ties = sum(each.tie for each in order)
    lines += [
        (
            f"{ties} of these {len(order)} are ties: the law cannot tell differences below "
            f"{order[-1].error:.3g}"
        ),
        "",
        "published rules for the first shape (advice only):",
    ]

    for each in said:
        outside = "" if each.inside else "; OUTSIDE its domain"
        lines.append(
            f"  {each.rule} ({each.source}): learning_rate {each.learning_rate:.3g}, "
            f"{each.batch_tokens / 1e6:.2f}M tokens a step; fitted on {each.domain}{outside}"
        )

    if line := doubt(CATALOGUE_RATE, said):
        lines.append(f"  the catalogue's {line}")
    return "\n".join(lines)


CATALOGUE_RATE = 3e-4
"""The guide's learning rate for every model of the catalogue."""


def _table(names: list[str], order: list[Ranked]) -> str:
    rows = [
        (
            name,
            f"{each.candidate.parameters / 1e9:.3f}B",
            f"{each.candidate.tokens / 1e9:.1f}B",
            f"{each.candidate.ratio:.1f}",
            f"{each.candidate.loss:.4f}",
            "tie" if each.tie else f"+{each.behind:.4f}",
            each.candidate.model.num_hidden_layers,
            each.candidate.model.hidden_size,
            each.candidate.model.num_attention_heads,
            each.candidate.model.num_key_value_heads,
            each.candidate.model.intermediate_size,
            f"{each.candidate.flops:.4g}",
        )
        for name, each in zip(names, order, strict=True)
    ]
    header = (
        "FAMILY",
        "PARAMETERS",
        "TOKENS",
        "RATIO",
        "LOSS",
        "",
        "LAYERS",
        "WIDTH",
        "HEADS",
        "KV",
        "FFN",
        "FLOPS",
    )
    return table(header, rows)


def _write_files(
    law: Law, wish: Wish, shapes: list[tuple[str, Candidate]], picture: Path | None, entry: Path | None
) -> None:
    from jobctl.jobs.core.durable import write_named
    from jobctl.jobs.scaling.architectures import template
    from jobctl.jobs.scaling.entry import entry_yaml
    from jobctl.jobs.scaling.picture import valley_svg

    family, best = shapes[0]
    if picture:
        text = valley_svg(law, wish.flops or best.flops, [each for _, each in shapes])
        write_named(picture, text.encode())
        say(f"jobctl: the valley is in {picture}", err=True)

    if entry:
        origin = f"jobctl plan for {best.flops:.4g} FLOPs, {law.summary}"
        write_named(entry, entry_yaml(best, template(family), wish.block_size, origin).encode())
        say(f"jobctl: {entry} is a model: jobctl estimate --model ./{entry.name}", err=True)

"""``jobctl estimate``: estimate the cost of a training before it is submitted."""

from __future__ import annotations

from typing import Any

import click

from jobctl.jobs.cli.choices import ChoiceCommand, choice_options, resolution, root
from jobctl.jobs.cli.output import emit, warn
from jobctl.jobs.core.errors import UserError


@click.command("estimate", cls=ChoiceCommand)
@choice_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate_command(as_json: bool, **options: Any) -> None:
    """Print memory, time, cost and disk of a training, and whether it fits."""
    from jobctl.jobs.cli.estimating import estimate_of
    from jobctl.jobs.estimate.words import page

    resolved = resolution(**options)
    estimated = estimate_of(resolved, root(options["site"]))
    if estimated is None:
        raise UserError(
            f"{resolved.spec.step} trains nothing, so there is nothing to estimate",
            hint="leave out the kind of job: jobctl estimate --model NAME",
        )

    warn(resolved.warnings)
    emit(estimated, as_json, page(estimated))

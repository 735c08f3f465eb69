"""Check whether a training fits: the line of a submission, the refusal, and ``batch_size=auto``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.cli.estimating import available_gib, estimate_of
from jobctl.jobs.cli.output import say
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.estimate.batch import automatic_batch
from jobctl.jobs.estimate.situation import situation_of
from jobctl.jobs.estimate.words import refuse, short
from jobctl.jobs.scaling.rules import advice, doubt
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, Resolution

AUTO = re.compile(r"\s*batch_size\s*=\s*auto\s*")


def check_room(resolved: Resolution, *, force: bool, root: Path | None = None, quiet: bool = False) -> None:
    """Print the estimate in one line on standard error.

    Raises UserError for a training that cannot fit, unless ``force``. A sweep searches for sizes that fit, so
    it is not refused. An evaluation keeps nothing for a backward pass, so it is not refused either.
    """
    spec = resolved.spec
    if not isinstance(spec, TrainSpec) or spec.train.eval_only or spec.job_kind.may_fail_in_part:
        return

    estimated = estimate_of(resolved, root)
    if estimated is None:
        return

    # This comes before the line is printed: the refusal has the same figures.
    if not estimated.fits and not force:
        raise refuse(estimated)
    if not quiet:
        say(f"jobctl: {short(estimated)}", err=True)


def resolve_with_auto(choices: Choices, find: Callable[[Choices], Resolution]) -> Resolution:
    """Return the job with the largest micro-batch that fits.

    Its global batch is the same as without ``auto``. ``find`` resolves choices. Raises UserError if not even
    one sequence fits.
    """
    sets = tuple(text for text in choices.sets if not AUTO.fullmatch(text))
    base = find(msgspec.structs.replace(choices, sets=sets))
    if not isinstance(base.spec, TrainSpec):
        raise UserError("--set batch_size=auto: only a training has a batch", hint="leave it out")

    situation = situation_of(base.spec)
    train = automatic_batch(situation, available_gib(base, situation))
    if train is None:
        estimated = estimate_of(base)
        assert estimated is not None
        raise refuse(estimated)

    chosen = (
        f"batch_size={train.batch_size}",
        f"gradient_accumulation_steps={train.gradient_accumulation_steps}",
    )
    # The user's --set words for these keys come first, so these later values count.
    return find(msgspec.structs.replace(choices, sets=(*sets, *chosen)))


def rate_doubts(resolved: Resolution) -> list[str]:
    """Return one line if the learning rate is on the same side of every published rule; none otherwise.

    The rules are asked for the model's optimal tokens, because its learning rate was chosen for them.
    """
    spec = resolved.spec
    if not isinstance(spec, TrainSpec) or not resolved.optimal_tokens:
        return []

    tokens = resolved.optimal_tokens
    flops = arithmetic.flops_per_token(spec.model, spec.train.block_size) * tokens
    said = advice(arithmetic.parameters_without_tables(spec.model), tokens, flops)
    line = doubt(spec.train.learning_rate, said)
    return [line] if line else []

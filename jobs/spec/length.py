"""Compute the steps, warm-up and decay of a training from a number of tokens or epochs. All pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.catalog.training_plan import SourceShare, doubts, plan_of
from jobctl.jobs.core.amounts import short_count
from jobctl.jobs.core.bounds import MOST
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.layers import Layer

OPTIMAL = "optimal"
"""The word for the number of tokens that a model's entry calls optimal."""
LONGEST_WARM_UP = 0.1
"""The largest share of a run for its warm-up. Published recipes warm up for 0.1 to 5% of the steps."""


class DatasetSize(msgspec.Struct, frozen=True, kw_only=True):
    """The training split of one data set."""

    tokens: float
    is_exact: bool
    """True if the tokens were counted. Otherwise the number is the catalogue's estimate."""


class AskedLength(msgspec.Struct, frozen=True, kw_only=True):
    """The length that a user asks for, as either ``tokens`` or ``epochs``."""

    tokens: str | None
    epochs: float | None

    def resolved(self, dataset: str, optimal: float, size: DatasetSize | None) -> tuple[str, float]:
        """Return the flag as the user wrote it, and its number of tokens. Raises UserError if it has none."""
        if self.tokens is not None and self.epochs is not None:
            raise UserError(
                "--tokens and --epochs both set the length of the run", hint="leave one of them out"
            )

        if self.tokens is not None:
            return f"--tokens {self.tokens}", parse_tokens(self.tokens, optimal)

        epochs = self.epochs or 0.0
        if not (epochs > 0 and math.isfinite(epochs)):
            raise UserError(f"--epochs {epochs:g}: not a number of passes over the data")

        if size is None:
            raise UserError(
                f"--epochs {epochs:g}: the number of tokens of {dataset} is unknown",
                hint="prepare the data set first, or use --tokens",
            )

        return f"--epochs {epochs:g}", epochs * size.tokens


def parse_tokens(text: str, optimal: float) -> float:
    """Return the number of ``--tokens``: ``81.7e9``, ``82B``, ``500M`` or ``optimal``.

    ``optimal`` is the number of the model's entry, or 0 if it has none. Raises UserError for anything else.
    """
    if text == OPTIMAL:
        if not optimal:
            raise UserError(
                "--tokens optimal: the model's entry has no optimal_tokens",
                hint="give a number: --tokens 20e9",
            )

        return optimal

    units = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    unit = units.get(text[-1:].upper(), 1.0)
    digits = text[:-1] if unit != 1.0 else text
    try:
        tokens = float(digits) * unit
    except ValueError:
        tokens = math.nan

    if not (math.isfinite(tokens) and tokens >= 1):
        raise UserError(
            f"--tokens {text}: not a number of tokens", hint="for example 81.7e9, 82B, 500M or optimal"
        )

    return tokens


def catalogue_size(spec: JobSpec) -> DatasetSize | None:
    """Return the catalogue's estimate for the data set of ``spec``, or None if it has no estimate."""
    if spec.inputs.dataset not in names("datasets"):
        return None

    entry = load_entry("datasets", spec.inputs.dataset, DatasetEntry)
    if not entry.tokens:
        return None

    # The catalogue counts the whole text. An epoch is a pass over the training split only.
    return DatasetSize(tokens=entry.tokens * (1 - entry.validation_share), is_exact=False)


def length_layer(
    asked: AskedLength, spec: JobSpec, origins: Mapping[str, Layer], optimal: float, size: DatasetSize | None
) -> Layer:
    """Return the settings that give ``spec`` the length of ``asked``.

    The decay ends with the run. The warm-up is the recipe's share of the decay, at most a tenth. A warm-up or
    a decay that the user sets stays unchanged. Raises UserError if the user also sets the number of steps, or
    if ``asked`` is impossible.
    """
    if not isinstance(spec, TrainSpec) or not spec.job_kind.checkpoints:
        raise UserError(f"--tokens and --epochs are for a training, not for {spec.step}")

    name, tokens = asked.resolved(spec.inputs.dataset, optimal, size)
    train = spec.train
    if _by_user("max_iters", origins):
        raise UserError(
            f"{name} and max_iters {train.max_iters} contradict each other", hint="leave one of them out"
        )

    # Round up, so that the user gets at least the requested tokens.
    steps = max(1, math.ceil(tokens / spec.tokens_per_step)) if math.isfinite(tokens) else math.inf
    if steps > MOST:
        raise UserError(
            f"{name}: these are {steps:.3g} steps of {spec.tokens_per_step:,} tokens; the most is {MOST:,} "
            "steps",
            hint="check this number and the batch size",
        )

    settings: dict[str, Any] = {"max_iters": steps}

    if not _by_user("lr_decay_iters", origins):
        # 0 means: end the decay at the last step. The recipe's number is for another length.
        settings["lr_decay_iters"] = 0

    if not _by_user("warmup_iters", origins):
        settings["warmup_iters"] = math.ceil(steps * _warm_up_share(train))

    return Layer(name, settings)


def _warm_up_share(train: TrainConfig) -> float:
    """Return the share of the recipe's run in which the learning rate rises."""
    whole = train.lr_decay_iters or train.max_iters
    return min(LONGEST_WARM_UP, train.warmup_iters / whole)


def _by_user(key: str, origins: Mapping[str, Layer]) -> bool:
    return key in origins and origins[key].by_user


def describe_length(spec: TrainSpec, optimal: float, size: DatasetSize | None) -> tuple[str, list[str]]:
    """Return one line about the tokens of a training, and its doubts.

    ``optimal`` is the compute-optimal number of tokens of the model, or 0 if it is unknown. ``size`` is None
    if the data set is unknown.
    """
    sources = []
    if size is not None:
        # Data of less than one block must not lead to a division by zero.
        blocks = max(1, int(size.tokens // spec.train.block_size))
        sources = [SourceShare(spec.inputs.dataset, blocks, 1.0)]

    plan = plan_of(spec.train, spec.global_batch_size, sources)
    parts = [
        f"{spec.train.max_iters:,} steps of {spec.tokens_per_step:,} tokens are {short_count(plan.tokens)} tokens"
    ]

    if optimal:
        parts.append(f"{100 * plan.tokens / optimal:.3g}% of the model's optimum ({short_count(optimal)})")

    for name, epochs in plan.epochs:
        about = "" if size and size.is_exact else "about "
        parts.append(f"{about}{epochs:.3g} epochs of {name}")

    return ", ".join(parts), doubts(plan, spec.train)

"""Compute the tokens and epochs of a training, and name settings that look like a mistake. All pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jobctl.jobs.catalog.schema import TrainConfig

MANY_EPOCHS = 4.0
"""Repeated data is worth almost as much as new data, up to about four epochs (Muennighoff et al. 2023)."""


@dataclasses.dataclass(frozen=True)
class SourceShare:
    """One data set of the run."""

    name: str
    blocks: int
    """The blocks of ``block_size`` tokens in its training split."""
    share: float
    """Its share of all samples, 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The whole of a training, from step 0 to ``max_iters``."""

    samples: int
    tokens: int
    epochs: tuple[tuple[str, float], ...]
    """The number of passes over each data set, by its name."""

    def __str__(self) -> str:
        times = ", ".join(f"{epochs:.3g} epochs of {name}" for name, epochs in self.epochs)
        return f"{self.tokens:,} tokens: {times}"


def plan_of(train: TrainConfig, global_batch_size: int, sources: Sequence[SourceShare]) -> Plan:
    """Return the samples, tokens and epochs of ``max_iters`` steps of ``global_batch_size`` samples."""
    samples = train.max_iters * global_batch_size
    return Plan(
        samples=samples,
        tokens=samples * train.block_size,
        epochs=tuple((source.name, samples * source.share / source.blocks) for source in sources),
    )


def doubts(plan: Plan, train: TrainConfig) -> list[str]:
    """Return one line for each setting that is allowed but is probably a mistake."""
    lines = [
        (
            f"{name} is read {epochs:.3g} times; a model learns little from text that it reads more than "
            f"{MANY_EPOCHS:.0f} times"
        )
        for name, epochs in plan.epochs
        if epochs > MANY_EPOCHS
    ]

    # None of these is an error: a short test of a long recipe has them on purpose.
    if train.warmup_iters == train.max_iters:
        lines.append(
            f"the warm-up takes all {train.max_iters} steps of the run: the learning rate never decays"
        )
    elif train.warmup_iters > train.max_iters:
        # The rate of the last step, by the schedule's own formula (trainer/optim/schedule.py).
        reached = train.learning_rate * train.max_iters / (train.warmup_iters + 1)
        lines.append(
            f"the warm-up of {train.warmup_iters} steps is longer than the run of {train.max_iters}: "
            f"the learning rate ends at {reached:.3g} of {train.learning_rate:.3g}"
        )

    decay_end = train.lr_decay_iters or train.max_iters
    if decay_end < train.max_iters:
        lines.append(
            f"the learning rate reaches its minimum at step {decay_end} of {train.max_iters}; "
            "the rest of the run trains at that minimum"
        )
    elif decay_end > train.max_iters:
        lines.append(
            f"the learning rate decays until step {decay_end}, but the run ends at step "
            f"{train.max_iters}, before the rate is small"
        )

    return lines

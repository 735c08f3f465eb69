"""Search for the best shape. The exact FLOPs of a shape give its tokens, and a law gives its loss.

The search goes backward from the budget: the FLOPs a token, with attention and head, tell how many tokens the
budget buys. A shape that the law cannot tell from the best one is called a tie.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.law import FLOPS, Law, optimum

NEAR = 0.03
"""The tolerance for a wanted size or budget, as a share. Shapes come in steps, so few fit exactly."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A shape with the tokens that it is trained on."""

    model: ModelConfig
    parameters: int
    tokens: float
    flops: float
    flops_per_token: int
    loss: float

    @property
    def ratio(self) -> float:
        """Return the tokens per parameter."""
        return self.tokens / self.parameters


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The request of a user. A number that is None is free."""

    flops: float | None = None
    tokens: float | None = None
    parameters: float | None = None
    ratio: float | None = None
    block_size: int = 2048


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate with its distance to the best one."""

    candidate: Candidate
    behind: float
    """Its loss minus that of the best one."""
    error: float
    """The standard error of that difference."""

    @property
    def tie(self) -> bool:
        """Return True if the law cannot tell it from the best one."""
        return self.behind <= self.error


def candidate(model: ModelConfig, law: Law, wish: Wish) -> Candidate | None:
    """Return ``model`` with its tokens, or None if it does not suit the wish."""
    parameters = arithmetic.parameters(model)
    if wish.parameters and abs(parameters / wish.parameters - 1) > NEAR:
        return None

    each = arithmetic.flops_per_token(model, wish.block_size)
    tokens = _tokens(parameters, each, wish)
    flops = each * tokens
    # With a budget and tokens, a shape must spend the budget on these tokens.
    if wish.flops is not None and abs(flops / wish.flops - 1) > NEAR:
        return None

    return Candidate(
        model=model,
        parameters=parameters,
        tokens=tokens,
        flops=flops,
        flops_per_token=each,
        loss=law.loss(parameters, tokens),
    )


def _tokens(parameters: int, flops_per_token: int, wish: Wish) -> float:
    if wish.ratio is not None:
        return wish.ratio * parameters
    if wish.tokens is not None:
        return wish.tokens

    assert wish.flops is not None
    return wish.flops / flops_per_token


def check(wish: Wish) -> None:
    """Raise UserError for a wish that leaves the tokens or the size open, or that sets one of them twice."""
    if wish.flops is None and wish.tokens is None and wish.parameters is None:
        raise UserError(
            "nothing to plan for", hint="--flops 1.36e21, or --params 1.5e9 with --tokens or --ratio"
        )

    if wish.flops is None and wish.tokens is None and wish.ratio is None:
        raise UserError("--params alone says nothing of the tokens", hint="add --tokens, --ratio or --flops")

    if wish.flops is None and wish.parameters is None and wish.ratio is None:
        raise UserError("--tokens alone says nothing of the size", hint="add --flops, --params or --ratio")

    if wish.tokens is not None and wish.ratio is not None:
        size = wish.tokens / wish.ratio
        raise UserError(
            "--tokens and --ratio fix the size twice", hint=f"--params {size:.3g} --tokens {wish.tokens:.3g}"
        )


def search(models: Iterable[ModelConfig], law: Law, wish: Wish) -> list[Candidate]:
    """Return the shapes that suit the wish, lowest loss first.

    Of equal losses the smaller shape comes first.
    """
    check(wish)
    suited = [each for model in models if (each := candidate(model, law, wish))]
    return sorted(suited, key=lambda each: (each.loss, each.parameters))


def ranked(candidates: Sequence[Candidate], law: Law) -> list[Ranked]:
    """Return each candidate with its distance to the first one, and the standard error of that distance."""
    if not candidates:
        return []

    best = candidates[0]
    return [
        Ranked(candidate=each, behind=each.loss - best.loss, error=difference_error(law, best, each))
        for each in candidates
    ]


def difference_error(law: Law, first: Candidate, second: Candidate) -> float:
    """Return the standard error of the difference of two losses.

    Trainings scatter about a law by its error of a loss. If the law has samples, their spread is added.
    """
    samples = law.sampled()
    if len(samples) < 2:
        return law.loss_error

    # Each sample gives one difference. Two separate errors would be wrong: both losses vary together.
    differences = [
        sample.loss(second.parameters, second.tokens) - sample.loss(first.parameters, first.tokens)
        for sample in samples
    ]
    return math.hypot(law.loss_error, statistics.stdev(differences))


def distinct(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return the ``count`` best shapes with different depth or width. Other neighbours hardly differ."""
    chosen: list[Candidate] = []
    seen: set[tuple[int, int]] = set()
    for each in candidates:
        shape = each.model.num_hidden_layers, each.model.hidden_size
        if shape not in seen:
            seen.add(shape)
            chosen.append(each)

        if len(chosen) == count:
            break

    return chosen


def valley(law: Law, flops: float, points: int = 41, span: float = 8.0) -> list[tuple[float, float, float]]:
    """Return sizes from 1/span to span times the best, with tokens and loss, at 6·N·D = ``flops``."""
    best = optimum(law, flops).parameters
    result = []
    for index in range(points):
        # Equal factors between neighbours give both sides of the best size the same weight.
        parameters = best * math.pow(span, 2 * index / (points - 1) - 1)
        tokens = flops / FLOPS / parameters
        result.append((parameters, tokens, law.loss(parameters, tokens)))

    return result

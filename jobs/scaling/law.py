"""Predict the loss by parameters and tokens, L = E + A / N^α + B / D^β, and find the optimum for a budget.

The law is that of Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3. This module takes FLOPs as 6·N·D,
because the fits did. The search for a shape counts them exactly.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from jobctl.jobs.catalog.loader import load_file
from jobctl.jobs.core.errors import UserError, nearest

LAWS = Path(__file__).parent / "laws"
DEFAULT = "besiroglu_2024"
FLOPS = 6
"""FLOPs per parameter and token: two forward, four backward."""
APPROACH_1 = 0.0885
"""N = 0.0885 · √C: exponent .50 and about 21 tokens a parameter, Hoffmann et al. 2022, tables 2 and 3."""


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One power law: coefficient / x^exponent."""

    coefficient: Annotated[float, Meta(gt=0)]
    exponent: Annotated[float, Meta(gt=0)]

    def at(self, x: float) -> float:
        """Return its share of the loss."""
        return self.coefficient / math.exp(self.exponent * math.log(x))


class Law(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fit. ``samples`` are refits to resampled points; their spread is the uncertainty."""

    summary: str
    source: str
    irreducible: Annotated[float, Meta(ge=0)]
    parameters: Term
    tokens: Term
    loss_error: Annotated[float, Meta(ge=0, description="standard error of a predicted loss")]
    samples: tuple[tuple[float, float, float, float, float], ...] = ()
    """E, A, B, α and β of each sample."""

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the predicted loss in nats per token."""
        return self.irreducible + self.parameters.at(parameters) + self.tokens.at(tokens)

    def sampled(self) -> list[Law]:
        """Return the law of each sample."""
        return [
            msgspec.structs.replace(
                self,
                irreducible=irreducible,
                parameters=Term(coefficient=a, exponent=alpha),
                tokens=Term(coefficient=b, exponent=beta),
                samples=(),
            )
            for irreducible, a, b, alpha, beta in self.samples
        ]


class Optimum(msgspec.Struct, frozen=True, kw_only=True):
    """The best size and tokens for a budget."""

    flops: float
    parameters: float
    tokens: float
    loss: float

    @property
    def ratio(self) -> float:
        """Return the tokens per parameter."""
        return self.tokens / self.parameters


def optimum(law: Law, flops: float) -> Optimum:
    """Return the compute-optimal size and tokens, in closed form (Hoffmann et al. 2022, equation 4)."""
    alpha = law.parameters.exponent
    beta = law.tokens.exponent
    weight = alpha * law.parameters.coefficient / (beta * law.tokens.coefficient)
    scale = math.pow(weight, 1 / (alpha + beta))
    pairs = flops / FLOPS

    parameters = scale * math.pow(pairs, beta / (alpha + beta))
    tokens = pairs / parameters
    return Optimum(flops=flops, parameters=parameters, tokens=tokens, loss=law.loss(parameters, tokens))


def optimum_at_ratio(law: Law, flops: float, ratio: float) -> Optimum:
    """Return the size that uses the budget with ``ratio`` tokens a parameter."""
    parameters = math.sqrt(flops / FLOPS / ratio)
    tokens = ratio * parameters
    return Optimum(flops=flops, parameters=parameters, tokens=tokens, loss=law.loss(parameters, tokens))


def approach_1(flops: float) -> tuple[float, float]:
    """Return size and tokens by Hoffmann's approach 1, from which the paper's table 3 comes."""
    parameters = APPROACH_1 * math.sqrt(flops)
    return parameters, flops / FLOPS / parameters


@functools.cache
def law_names() -> list[str]:
    """Return the published laws, sorted."""
    return sorted(path.stem for path in LAWS.glob("*.yaml"))


def load_law(choice: str) -> Law:
    """Return a published law by name, or a user's law by the path of its YAML file.

    Raises UserError if there is none.
    """
    # No published law has a name like this.
    if choice.endswith((".yaml", ".yml")) or "/" in choice:
        return load_file(Path(choice), Law)

    if choice not in law_names():
        raise UserError(
            f"unknown scaling law '{choice}'; {nearest(choice, law_names())}",
            hint="or the path of a file that jobctl fit has written: --fit ./mine.yaml",
        )

    return load_file(LAWS / f"{choice}.yaml", Law)

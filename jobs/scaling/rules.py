"""Advice on the learning rate and the batch by published rules.

Each rule has the domain in which it was fitted.
"""

from __future__ import annotations

import math

import msgspec


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The advice of one rule for a training."""

    rule: str
    source: str
    domain: str
    learning_rate: float
    batch_tokens: float
    inside: bool
    """True if the training lies in the rule's domain."""


def step_law(parameters: float, tokens: float) -> Advice:
    """Return StepLaw's advice. ``parameters`` excludes the embedding (arXiv 2503.04715, equation 1)."""
    return Advice(
        rule="StepLaw",
        source="arXiv 2503.04715",
        domain="60M to 1B parameters without embedding, 2B to 100B tokens",
        learning_rate=1.79 * math.pow(parameters, -0.713) * math.pow(tokens, 0.307),
        batch_tokens=0.58 * math.pow(tokens, 0.571),
        inside=6e7 <= parameters <= 1.1e9 and 2e9 <= tokens <= 1e11,
    )


def deepseek(flops: float) -> Advice:
    """Return the advice of DeepSeek LLM's rule (arXiv 2401.02954, equation 1)."""
    return Advice(
        rule="DeepSeek LLM",
        source="arXiv 2401.02954",
        domain="1e17 to 2e19 FLOPs, used up to 7B and 67B parameters",
        learning_rate=0.3118 * math.pow(flops, -0.1250),
        batch_tokens=0.2920 * math.pow(flops, 0.3271),
        inside=1e17 <= flops <= 2e19,
    )


def advice(parameters: float, tokens: float, flops: float) -> tuple[Advice, ...]:
    """Return the advice of each rule."""
    return step_law(parameters, tokens), deepseek(flops)


def doubt(learning_rate: float, said: tuple[Advice, ...]) -> str:
    """Return one line if all rules are above ``learning_rate``, or all below it; otherwise an empty text."""
    factors = sorted(each.learning_rate / learning_rate for each in said)
    if factors[0] <= 1 <= factors[-1]:
        return ""

    names = " and ".join(each.rule for each in said)
    if factors[0] > 1:
        span = f"{factors[0]:.1f} to {factors[-1]:.1f} times below"
    else:
        span = f"{1 / factors[-1]:.1f} to {1 / factors[0]:.1f} times above"

    return f"learning_rate {learning_rate:.3g} is {span} what {names} say; advice only"

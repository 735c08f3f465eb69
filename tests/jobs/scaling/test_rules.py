"""Published rules of learning rate and batch."""

from __future__ import annotations

import pytest

from jobctl.jobs.scaling.rules import advice, deepseek, doubt, step_law


def test_step_law_is_its_formula() -> None:
    # 1.79 · (1e9)^-0.713 · (1e11)^0.307 and 0.58 · (1e11)^0.571, by hand.
    said = step_law(1e9, 1e11)
    assert said.learning_rate == pytest.approx(1.79 * 10 ** (-0.713 * 9 + 0.307 * 11))
    assert said.batch_tokens == pytest.approx(0.58 * 10 ** (0.571 * 11))
    assert said.inside


def test_deepseek_is_its_formula() -> None:
    said = deepseek(1e19)
    assert said.learning_rate == pytest.approx(0.3118 * 10 ** (-0.125 * 19))
    assert said.batch_tokens == pytest.approx(0.292 * 10 ** (0.3271 * 19))
    assert said.inside
    assert not deepseek(1e21).inside


@pytest.mark.parametrize(
    ("parameters", "tokens", "flops"),
    [(1.02e9, 101.9e9, 8.76e20), (1.21e9, 81.7e9, 8.44e20), (1.70e9, 61.5e9, 8.17e20)],
)
def test_the_catalogues_rate_is_below_both(parameters: float, tokens: float, flops: float) -> None:
    said = advice(parameters, tokens, flops)
    assert all(2.4 < each.learning_rate / 3e-4 < 5.6 for each in said)
    assert "times below what StepLaw and DeepSeek LLM say; advice only" in doubt(3e-4, said)


def test_a_rate_between_the_rules_is_not_doubted_and_one_above_is() -> None:
    said = advice(1e9, 1e11, 6e20)
    between = (said[0].learning_rate + said[1].learning_rate) / 2
    assert doubt(between, said) == ""
    assert "times above" in doubt(1.0, said)

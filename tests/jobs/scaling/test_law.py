"""Closed forms against the figures that were asked for, to the digits that were asked for."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.law import (
    DEFAULT,
    Law,
    Term,
    approach_1,
    law_names,
    load_law,
    optimum,
    optimum_at_ratio,
)

# law, budget, parameters, tokens
FIGURES = [
    ("hoffmann_2022", 1e21, 1.824e9, 91.36e9),
    ("hoffmann_2022", 1.36e21, 2.096e9, 108.1e9),
    ("hoffmann_2022", 5.76e23, 32.19e9, 2.982e12),
    ("hoffmann_2022_tex", 1e21, 2.215e9, 75.26e9),
    ("hoffmann_2022_tex", 1.36e21, 2.548e9, 88.95e9),
    ("hoffmann_2022_tex", 5.76e23, 40.31e9, 2.382e12),
    ("besiroglu_2024", 1e21, 2.778e9, 59.99e9),
    ("besiroglu_2024", 1.36e21, 3.253e9, 69.68e9),
    ("besiroglu_2024", 5.76e23, 72.25e9, 1.329e12),
]
# Hoffmann et al. 2022, table 3: parameters, FLOPs, tokens
TABLE_3 = [
    (400e6, 1.92e19, 8.0e9),
    (1e9, 1.21e20, 20.2e9),
    (10e9, 1.23e22, 205.1e9),
    (67e9, 5.76e23, 1.5e12),
    (175e9, 3.85e24, 3.7e12),
    (280e9, 9.90e24, 5.9e12),
    (520e9, 3.43e25, 11.0e12),
    (1e12, 1.27e26, 21.2e12),
    (10e12, 1.30e28, 216.2e12),
]


@pytest.mark.parametrize(("name", "flops", "parameters", "tokens"), FIGURES)
def test_the_closed_form_gives_the_tables_figures(
    name: str, flops: float, parameters: float, tokens: float
) -> None:
    best = optimum(load_law(name), flops)
    assert float(f"{best.parameters:.4g}") == parameters
    assert float(f"{best.tokens:.4g}") == tokens


@pytest.mark.parametrize("name", law_names())
def test_the_optimum_is_the_lowest_loss_of_its_budget(name: str) -> None:
    law = load_law(name)
    best = optimum(law, 1.36e21)
    assert 6 * best.parameters * best.tokens == pytest.approx(1.36e21)
    for factor in (0.9, 0.99, 1.01, 1.1):
        size = best.parameters * factor
        assert law.loss(size, 1.36e21 / 6 / size) > best.loss


@pytest.mark.parametrize(
    ("parameters", "tokens", "loss"),
    [(1.545e9, 101.909e9, 2.3351), (2.224e9, 61.545e9, 2.3511), (1.8304e9, 81.727e9, 2.3397)],
)
def test_the_printed_constants_give_the_guides_losses(parameters: float, tokens: float, loss: float) -> None:
    assert round(load_law("hoffmann_2022").loss(parameters, tokens), 4) == loss


@pytest.mark.parametrize(("parameters", "flops", "tokens"), TABLE_3)
def test_approach_1_is_what_table_3_has(parameters: float, flops: float, tokens: float) -> None:
    size, length = approach_1(flops)
    assert size == pytest.approx(parameters, rel=0.05)
    assert length == pytest.approx(tokens, rel=0.05)


def test_a_ratio_is_kept() -> None:
    best = optimum_at_ratio(load_law(DEFAULT), 1.36e21, 20)
    assert best.ratio == pytest.approx(20)
    assert 6 * best.parameters * best.tokens == pytest.approx(1.36e21)


def test_an_unknown_law_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'hoffmann_2022'"):
        load_law("hoffman_2022")
    with pytest.raises(UserError, match="cannot be read"):
        load_law("./none.yaml")


def test_samples_are_laws_of_their_own() -> None:
    law = Law(
        summary="s",
        source="s",
        irreducible=1.0,
        parameters=Term(coefficient=1.0, exponent=1.0),
        tokens=Term(coefficient=1.0, exponent=1.0),
        loss_error=0.1,
        samples=((2.0, 3.0, 4.0, 0.5, 0.25),),
    )
    (sample,) = law.sampled()
    assert sample.loss(4.0, 16.0) == pytest.approx(2.0 + 3.0 / 2 + 4.0 / 2)
    assert law.loss(1.0, 1.0) == pytest.approx(3.0)

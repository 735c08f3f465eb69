"""The search for a shape: exact FLOPs, ranks, ties, and the guide's own plans by a right count."""

from __future__ import annotations

import msgspec
import pytest

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.architectures import architectures, template
from jobctl.jobs.scaling.law import load_law, optimum
from jobctl.jobs.scaling.search import Wish, candidate, check, distinct, ranked, search, valley

BESIROGLU = load_law("besiroglu_2024")
BUDGET = 1.36e21
# model, the guide's tokens, what they cost, tokens of the whole budget in billions, loss under Besiroglu
GUIDE = [
    ("llama3_1.5b", 101.909e9, 8.76e20, 158, 2.3203),
    ("llama3_2.2b", 61.545e9, 8.17e20, 102, 2.3235),
    ("qwen3_1.8b", 81.727e9, 8.44e20, 132, 2.3192),
]


@pytest.mark.parametrize(("name", "tokens", "flops", "billions", "loss"), GUIDE)
def test_the_guides_plans_spend_less_than_their_budget(
    name: str, tokens: float, flops: float, billions: int, loss: float
) -> None:
    model = load_model(name).config
    asked = candidate(model, BESIROGLU, Wish(tokens=tokens, parameters=arithmetic.parameters(model)))
    whole = candidate(model, BESIROGLU, Wish(flops=BUDGET))
    assert asked is not None
    assert whole is not None
    assert float(f"{asked.flops:.3g}") == flops
    assert 0.60 <= asked.flops / BUDGET <= 0.645
    assert round(whole.tokens / 1e9) == billions
    assert asked.loss == pytest.approx(loss, abs=1.01e-4)


def test_qwen3_comes_first_and_all_three_are_a_tie() -> None:
    shapes = []
    for name, tokens, *_ in GUIDE:
        model = load_model(name).config
        made = candidate(model, BESIROGLU, Wish(tokens=tokens, parameters=arithmetic.parameters(model)))
        assert made is not None
        shapes.append((made.loss, name, made))

    shapes.sort()
    assert shapes[0][1] == "qwen3_1.8b"
    assert all(each.tie for each in ranked([made for *_, made in shapes], BESIROGLU))


@pytest.mark.parametrize("family", ["gpt2", "llama2", "llama3", "qwen3"])
def test_every_shape_spends_the_budget_exactly(family: str) -> None:
    shapes = search(architectures(template(family)), BESIROGLU, Wish(flops=BUDGET))
    assert len(shapes) > 100
    for each in shapes[:50]:
        exact = arithmetic.flops_per_token(each.model, 2048) * each.tokens
        assert exact == pytest.approx(BUDGET)
        assert each.parameters == arithmetic.parameters(each.model)

    losses = [each.loss for each in shapes]
    assert losses == sorted(losses)
    # The law's optimum counts 6·N·D; a shape whose embedding costs nothing may do better, but not by much.
    assert abs(losses[0] - optimum(BESIROGLU, BUDGET).loss) < 0.01


def test_twenty_tokens_a_parameter() -> None:
    shapes = search(architectures(template("llama3")), BESIROGLU, Wish(flops=BUDGET, ratio=20.0))
    assert shapes
    assert all(each.ratio == pytest.approx(20) for each in shapes)
    assert all(abs(each.flops / BUDGET - 1) <= 0.03 for each in shapes)


def test_a_wanted_size_is_met_within_three_percent() -> None:
    shapes = search(architectures(template("qwen3")), BESIROGLU, Wish(flops=BUDGET, parameters=1.5e9))
    assert shapes
    assert all(abs(each.parameters / 1.5e9 - 1) <= 0.03 for each in shapes)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(), "nothing to plan for"),
        (Wish(parameters=1e9), "--params alone"),
        (Wish(tokens=1e9), "--tokens alone"),
        (Wish(tokens=1e9, ratio=20.0, flops=1e18), "fix the size twice"),
    ],
)
def test_a_wish_that_leaves_something_open_is_refused(wish: Wish, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(wish)


def test_far_shapes_are_no_tie() -> None:
    shapes = search(architectures(template("llama3")), BESIROGLU, Wish(flops=BUDGET))
    order = ranked(shapes, BESIROGLU)
    assert order[0].tie
    assert order[0].behind == 0
    assert not order[-1].tie


def test_samples_widen_the_error_of_a_difference() -> None:
    samples = tuple((1.8, 480.0, 2000.0, 0.3478 + 0.01 * index, 0.3658) for index in range(5))
    sampled = msgspec.structs.replace(BESIROGLU, samples=samples)
    shapes = search(architectures(template("llama3")), BESIROGLU, Wish(flops=BUDGET))
    assert ranked(shapes, sampled)[-1].error > ranked(shapes, BESIROGLU)[-1].error


def test_neighbours_of_one_depth_and_width_are_shown_once() -> None:
    shapes = search(architectures(template("qwen3")), BESIROGLU, Wish(flops=BUDGET))
    few = distinct(shapes, 5)
    assert len(few) == 5
    assert len({(each.model.num_hidden_layers, each.model.hidden_size) for each in few}) == 5
    assert few[0] == shapes[0]


def test_the_valley_is_lowest_in_its_middle() -> None:
    points = valley(BESIROGLU, BUDGET)
    losses = [loss for *_, loss in points]
    assert losses.index(min(losses)) == len(points) // 2
    assert all(size * tokens * 6 == pytest.approx(BUDGET) for size, tokens, _ in points)

"""The bounds of the checks of learning: what is near a fault and is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.monitoring.checks import learning
from jobctl.jobs.monitoring.checks.finding import RunCheck, RunFacts
from jobctl.jobs.monitoring.history import Evaluation, History, Step
from tests.jobs.monitoring.checks.faults import curve_of, loss_of_text, started
from tests.jobs.monitoring.checks.test_diagnosis import findings
from tests.jobs.monitoring.runs import start_line, step_line, training_lines, write_log


@pytest.mark.parametrize(
    "loss",
    [
        lambda step: loss_of_text(step) + (6.0 if step in (200, 201, 202) else 0.0),
        lambda step: max(3.3, loss_of_text(step)),
        lambda step: 10.8 if step < 5 else 7.0 - step / 1000,
    ],
    ids=["a spike that heals", "a plateau", "a steep beginning"],
)
def test_curves_that_are_well(tmp_path: Path, loss: Callable[[int], float]) -> None:
    curve_of(loss)(tmp_path)
    assert findings(tmp_path) == []


def test_a_short_test_of_a_long_recipe_is_meant_so(tmp_path: Path) -> None:
    curve_of(loss_of_text, steps=50, warmup_iters=2000)(tmp_path)
    assert findings(tmp_path) == []


def test_continued_weights_may_begin_low(tmp_path: Path) -> None:
    curve_of(lambda n: 3.1 + 1.0 / n, init_from="/models/weights")(tmp_path)
    assert findings(tmp_path) == []


@pytest.mark.parametrize("rate", [3e-5, 3e-4, 1e-3])
def test_usual_learning_rates(tmp_path: Path, rate: float) -> None:
    started(learning_rate=rate)(tmp_path)
    assert findings(tmp_path) == []


def test_byte_models_have_low_losses_by_nature(tmp_path: Path) -> None:
    curve_of(lambda n: 0.9 + 4.0 / n**0.5, vocab_size=256)(tmp_path)
    assert findings(tmp_path) == []


def test_the_evidence_shows_a_gradient_that_is_a_number_in_four_digits(tmp_path: Path) -> None:
    lines = training_lines(range(1, 101), loss=loss_of_text)
    bad = step_line(101, "nan", grad_norm=10.831619262695312, skipped=True)
    write_log(tmp_path, [start_line(), *lines, bad])
    (finding,) = [f for f in findings(tmp_path) if f.check == "loss_not_a_number"]
    assert finding.evidence == "1 steps, the first is 101: loss nan, gradient norm 10.8316"


def test_steps_of_other_tools_that_log_no_gradient_norm_are_well(tmp_path: Path) -> None:
    lines = [{"kind": "iteration", "iter": step, "loss": 3.0 - step / 100} for step in range(1, 21)]
    write_log(tmp_path, [start_line(), *lines])
    assert "loss_not_a_number" not in [finding.check for finding in findings(tmp_path)]


def facts(
    losses: Sequence[float | str | None] = (),
    first: int = 1,
    norms: Sequence[float] = (),
    scores: Sequence[float] = (),
    startup: dict[str, Any] | None = None,
    **config: Any,
) -> RunFacts:
    """Return the facts of a run with these losses and norms, a step each, and a validation each tenth step."""
    steps = [
        Step(first + place, loss=loss, grad_norm=norms[place] if norms else 1.0, samples=place + 1)
        for place, loss in enumerate(losses or [3.0] * len(norms))
    ]
    history = History(
        name="r",
        path=Path("r"),
        config={"vocab_size": 50304, "block_size": 1024, **config},
        startup=startup or {},
        steps=steps,
        evaluations=[Evaluation(10 * place, score, "v") for place, score in enumerate(scores)],
    )
    return RunFacts(history=history)


def falling_to(last: float, steps: int = 100, best: float | None = None) -> list[float]:
    """Return losses that begin at 10; the last tenth is ``last``, and what is before it ``best``."""
    middle = 5.0 if best is None else best
    tenth = steps // 10
    return [10.0] * 5 + [middle] * (steps - 5 - tenth) + [last] * tenth


@pytest.mark.parametrize(
    ("check", "well", "ill"),
    [
        # 3 percent of fall is the least, over a hundred steps, from the first one.
        (learning.loss_not_falling, facts(falling_to(9.69)), facts(falling_to(9.71))),
        (learning.loss_not_falling, facts(falling_to(9.9, 99)), facts(falling_to(9.9, 100))),
        (learning.loss_not_falling, facts(falling_to(9.9), first=2), facts(falling_to(9.9), first=1)),
        # 15 percent over the best is too much, where the loss has fallen before.
        (learning.loss_diverged, facts(falling_to(5.7)), facts(falling_to(5.8))),
        (learning.loss_diverged, facts(falling_to(9.0, 99)), facts(falling_to(9.0, 100))),
        (learning.loss_diverged, facts(falling_to(12.0, best=9.6)), facts(falling_to(12.0, best=9.4))),
        # 1.5 nats are too few, early, for a vocabulary of words.
        (learning.loss_too_low, facts(falling_to(1.5)), facts(falling_to(1.49))),
        (learning.loss_too_low, facts([1.0] * 19), facts([1.0] * 20)),
        (
            learning.loss_too_low,
            facts(falling_to(1.0), vocab_size=999),
            facts(falling_to(1.0), vocab_size=1000),
        ),
        (
            learning.loss_too_low,
            facts(falling_to(1.0), block_size=50_000_001),
            facts(falling_to(1.0), block_size=50_000_000),
        ),
        (learning.loss_too_low, facts(falling_to(1.0), block_size=0), facts(falling_to(1.0))),
        # ln(50304) is 10.826: 0.75 to 1.3 of it.
        (learning.loss_starts_wrong, facts([8.12]), facts([8.11])),
        (learning.loss_starts_wrong, facts([14.07]), facts([14.08])),
        (learning.loss_starts_wrong, facts([3.0], first=2), facts([3.0])),
        (learning.loss_starts_wrong, facts([3.0], init_from="run:other"), facts([3.0], init_from="scratch")),
        (learning.loss_starts_wrong, facts(["nan"]), facts([99.0])),
        (learning.loss_starts_wrong, facts([]), facts([3.0], init_from=None)),
        # Of the newest fifth the middle, 0.02 to 20.
        (learning.gradients_out_of_range, facts(norms=[20.0] * 100), facts(norms=[20.1] * 100)),
        (learning.gradients_out_of_range, facts(norms=[0.02] * 100), facts(norms=[0.019] * 100)),
        (learning.gradients_out_of_range, facts(norms=[99.0] * 99), facts(norms=[99.0] * 100)),
        (
            learning.gradients_out_of_range,
            facts(norms=[1.0] * 91 + [99.0] * 9),
            facts(norms=[1.0] * 89 + [99.0] * 11),
        ),
        # 0.003239 - 0.0001395 ln(1e9) is 3.48e-4: a thirtieth to eight times.
        (
            learning.learning_rate_unusual,
            facts(learning_rate=1.2e-5, startup={"parameters": 1e9}),
            facts(learning_rate=1.1e-5, startup={"parameters": 1e9}),
        ),
        (
            learning.learning_rate_unusual,
            facts(learning_rate=2.78e-3, startup={"parameters": 1e9}),
            facts(learning_rate=2.79e-3, startup={"parameters": 1e9}),
        ),
        (
            learning.learning_rate_unusual,
            facts(learning_rate=7.9e-4, startup={"parameters": 1e12}),
            facts(learning_rate=8.1e-4, startup={"parameters": 1e12}),
        ),
        (
            learning.learning_rate_unusual,
            facts(learning_rate=0.5, startup={"parameters": 999_999}),
            facts(learning_rate=0.5, startup={"parameters": 1_000_000}),
        ),
        (
            learning.learning_rate_unusual,
            facts(learning_rate=0.0, startup={"parameters": 1e9}),
            facts(learning_rate=1e-9, startup={"parameters": 1e9}),
        ),
        (
            learning.warmup_too_long,
            facts(warmup_iters=199, max_iters=200),
            facts(warmup_iters=200, max_iters=200),
        ),
        (
            learning.warmup_too_long,
            facts(warmup_iters=2000, max_iters=199),
            facts(warmup_iters=2000, max_iters=200),
        ),
        (
            learning.no_gradient_clipping,
            facts(grad_clip=0.1, max_iters=100),
            facts(grad_clip=0.0, max_iters=100),
        ),
        (learning.no_gradient_clipping, facts(grad_clip=0, max_iters=99), facts(grad_clip=0, max_iters=100)),
        (learning.no_gradient_clipping, facts(max_iters=100), facts(grad_clip=-1, max_iters=100)),
        (
            learning.data_repeated,
            facts(startup={"epochs_planned": {"a": 4.0}}),
            facts(startup={"epochs_planned": {"a": 1.0, "b": 4.1}}),
        ),
        (
            learning.data_repeated,
            facts(startup={"epochs_planned": [9.0]}),
            facts(startup={"epochs_planned": {"a": "9"}}),
        ),
    ],
)
def test_each_bound_is_where_it_is_said_to_be(check: RunCheck, well: RunFacts, ill: RunFacts) -> None:
    assert check(well) is None
    finding = check(ill)
    assert finding is not None
    assert finding.check == check.__name__


FALLS = [10.0 - place / 100 for place in range(200)]


@pytest.mark.parametrize(
    ("training", "scores", "rises"),
    [
        (FALLS, [5.0, 4.0, 4.0, 4.0, 4.08, 4.08], True),
        (FALLS, [5.0, 4.0, 4.0, 4.0, 4.07, 4.07], False),
        (FALLS, [4.0, 4.0, 4.5, 4.5], True),
        (FALLS, [4.0, 4.0, 4.5], False),
        (FALLS, [4.0, 9.0, 4.0, 4.0], False),
        (FALLS[:99], [4.0, 4.0, 4.5, 4.5], False),
        ([3.0] * 200, [4.0, 4.0, 4.5, 4.5], False),
        (FALLS, [], False),
    ],
    ids=[
        "two percent",
        "less",
        "four scores",
        "three scores",
        "one bad score",
        "a short run",
        "no training either",
        "never scored",
    ],
)
def test_a_validation_that_rises_is_told_from_noise_and_from_a_training_that_stands(
    training: list[float], scores: list[float], rises: bool
) -> None:
    assert (learning.validation_rises(facts(training, scores=scores)) is not None) == rises


def test_only_the_first_validation_set_is_compared_with_itself() -> None:
    """Each set has a level of its own."""
    run = facts(FALLS, scores=[4.0, 4.0, 4.0, 4.0])
    run.history.evaluations += [Evaluation(10, 9.0, "other") for _ in range(8)]
    assert learning.validation_rises(run) is None


def test_the_size_of_a_model_follows_from_its_settings_where_the_log_has_no_count() -> None:
    """A model of 12 * 768^2 weights a block, twelve blocks and a table of 50304 is GPT-2's smallest."""
    model = {
        "architecture": "gpt2",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "max_position_embeddings": 1024,
        "bias": True,
        "tie_word_embeddings": True,
    }
    finding = learning.learning_rate_unusual(facts(learning_rate=0.5, **model))
    assert finding is not None
    assert " for 124M parameters" in finding.evidence
    assert learning.learning_rate_unusual(facts(learning_rate=0.5, hidden_size=768)) is None


def test_a_step_whose_gradient_alone_is_no_number_is_bad() -> None:
    finding = learning.loss_not_a_number(facts([3.0, 2.9, 2.8], first=7, norms=[1.0, float("inf"), 1.0]))
    assert finding is not None
    assert finding.evidence == "1 steps, the first is 8: loss 2.9000, gradient norm inf"

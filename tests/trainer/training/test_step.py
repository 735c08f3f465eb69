"""One step: what micro-steps add up to, and what a bad step leaves alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.distributed import World
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.training.guards import ENOUGH
from jobctl.trainer.training.step import Stepper, StepResult
from tests.trainer.models import tiny

HOST = World(rank=0, size=1, device=torch.device("cpu"))
RATE = 1e-2
EOS = 0


def stepper(**changes: Any) -> Stepper:
    train = msgspec.structs.replace(
        TrainConfig(dtype="float32", block_size=16, gradient_accumulation_steps=1, grad_clip=0.0), **changes
    )
    model = tiny.model("qwen3")
    return Stepper(model, build_optimizer(model, train), train, HOST, "none", EOS)


def run(taker: Stepper, batches: Iterable[Tensor]) -> StepResult:
    return taker.run(iter(batches), RATE, StepTimer(HOST.device))


def weights(taker: Stepper) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in taker.model.state_dict().items()}


def test_micro_steps_are_one_step_with_all_their_batches() -> None:
    batches = [tiny.tokens(2, 17, seed=seed) for seed in range(3)]
    apart = stepper(gradient_accumulation_steps=3)
    whole = stepper()
    in_parts = run(apart, batches)
    at_once = run(whole, [torch.cat(batches)])
    torch.testing.assert_close(in_parts.loss, at_once.loss)
    torch.testing.assert_close(in_parts.grad_norm, at_once.grad_norm)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(apart)[name], weight, rtol=0, atol=2e-3 * RATE, msg=name)


def test_a_step_takes_as_many_batches_as_it_has_micro_steps() -> None:
    """The next step goes on behind them, or samples would be left out or seen twice."""
    batches = itertools.count()
    taken: list[int] = []

    def numbered() -> Iterable[Tensor]:
        for number in batches:
            taken.append(number)
            yield tiny.tokens(1, 17, seed=number)

    taker = stepper(gradient_accumulation_steps=2)
    source = iter(numbered())
    for steps in (1, 2):
        taker.run(source, RATE, StepTimer(HOST.device))
        assert len(taken) == 2 * steps


def test_no_gradient_is_left_for_the_next_step() -> None:
    taker = stepper()
    run(taker, [tiny.tokens(2, 17)])
    assert all(parameter.grad is None for parameter in taker.model.parameters())


def broken(model: Decoder) -> None:
    """Make every gradient, and the loss, not a number."""
    model.register_forward_hook(lambda *arguments: arguments[-1] * float("nan"))


def test_a_step_that_is_not_a_number_changes_neither_weights_nor_state() -> None:
    taker = stepper()
    run(taker, [tiny.tokens(2, 17)])
    before = weights(taker)
    state = {name: tensor.clone() for name, tensor in taker.optimizer.state().items()}
    broken(taker.model)  # type: ignore[arg-type]
    result = run(taker, [tiny.tokens(2, 17, seed=2)])
    assert not result.finite
    assert result.skipped
    assert all(torch.equal(weights(taker)[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(taker.optimizer.state()[name], tensor) for name, tensor in state.items())


def test_a_loss_that_stands_out_is_skipped_and_counts_as_finite() -> None:
    taker = stepper(skip_loss_spikes=6.0)
    assert taker.window is not None
    taker.window.losses[-ENOUGH:] = torch.linspace(0.1, 0.2, ENOUGH)
    before = weights(taker)
    result = run(taker, [tiny.tokens(2, 17)])
    assert result.finite
    assert result.skipped
    assert all(torch.equal(weights(taker)[name], tensor) for name, tensor in before.items())


def test_clipping_leaves_the_direction_and_the_reported_norm() -> None:
    """The norm of the log is that of the gradients, not of what was left of them."""
    seen: list[tuple[float, float]] = []

    class Noting:
        updates_copies = False

        def step(self, factor: Tensor, skip: Tensor, rate: float) -> None:
            seen.append((float(factor), rate))

        def state(self) -> dict[str, Tensor]:
            return {}

    results = []
    for limit in (0.0, 1e-3):
        taker = stepper(grad_clip=limit)
        taker.optimizer = Noting()
        results.append(run(taker, [tiny.tokens(2, 17)]))
    assert torch.equal(results[0].grad_norm, results[1].grad_norm)
    assert seen[0] == (1.0, RATE)
    assert seen[1] == (pytest.approx(1e-3 / float(results[1].grad_norm), rel=1e-2), RATE)


def test_documents_are_kept_apart_by_their_ends() -> None:
    """Only with ``document_masking``: then what stands before the end of a document changes no later loss."""
    losses = {}
    for masking in (True, False):
        taker = stepper(document_masking=masking)
        words = tiny.tokens(1, 17).clamp(min=1)
        words[0, 8] = EOS
        other = words.clone()
        other[0, :4] = other[0, :4] % 100 + 1
        with torch.no_grad():
            losses[masking] = [
                taker.model(each[:, :-1], each[:, 1:], ids, reduction="none")[0, 9:]
                for each in (words, other)
                for ids in [documents_of(taker, each)]
            ]
    assert torch.equal(*losses[True])
    assert not torch.equal(*losses[False])


def documents_of(taker: Stepper, words: Tensor) -> Tensor | None:
    """Return the documents that the stepper gives to its model."""
    given: list[Tensor | None] = []
    hook = taker.model.register_forward_pre_hook(lambda _, arguments: given.append(arguments[2]))
    taker.loss(words)
    hook.remove()
    (documents,) = given
    return documents


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"skip_loss_spikes": 6.0}, {"guard.losses"}),
        ({"dtype": "float16"}, {"guard.loss_scale", "guard.good_steps"}),
    ],
    ids=["none", "spikes", "float16"],
)
def test_what_guards_remember_goes_into_the_checkpoint(changes: dict[str, Any], names: set[str]) -> None:
    assert stepper(**changes).guard_tensors().keys() == names

"""The variants of a step: all take as many tokens, each has its habit, and leaves none behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from bench import variants
from bench.entrants import Ours
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from tests.trainer.corpus import TINY

CPU = torch.device("cpu")
BATCH = 4
MICRO_STEPS = 2
BLOCK = 16


@pytest.fixture
def entrant() -> Ours:
    train = msgspec.structs.replace(TrainConfig(), dtype="float32", compile=False, batch_size=BATCH)
    return Ours(msgspec.convert(TINY, ModelConfig), CPU, train)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the micro-batches that have been taken."""
    sizes: list[int] = []

    def batches(_: Path, batch: int, block: int) -> Iterator[Tensor]:
        while True:
            sizes.append(batch)
            yield torch.ones(batch, block + 1, dtype=torch.int64)

    monkeypatch.setattr(variants, "batches", batches)
    return sizes


def test_each_variant_takes_a_step_of_as_many_sequences_with_its_habit_and_leaves_none_behind(
    entrant: Ours, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []
    item = torch.Tensor.item

    def counted(self: Tensor) -> object:
        waits.append(gc.isenabled())
        return item(self)

    steps = variants.variants(entrant, Path(), BATCH, MICRO_STEPS, BLOCK)
    monkeypatch.setattr(torch.Tensor, "item", counted)
    collecting: list[bool] = []
    run = entrant.stepper(MICRO_STEPS).run
    monkeypatch.setattr(
        entrant.stepper(MICRO_STEPS), "run", lambda *a: (collecting.append(gc.isenabled()), run(*a))[1]
    )
    seen = {}
    gc.disable()
    for name, step in steps.items():
        taken.clear()
        waits.clear()
        step()
        seen[name] = (list(taken), len(waits))
    assert gc.isenabled() is False
    gc.enable()
    base = [BATCH] * MICRO_STEPS
    waiting = seen["the host waits in each micro-step"]
    assert (waiting[0], waiting[1] - seen[variants.AS_IT_IS][1]) == (base, MICRO_STEPS)
    assert seen[variants.AS_IT_IS][0] == seen["Python's garbage collector on"][0] == base
    assert seen["half the micro-batch, twice the micro-steps"][0] == [BATCH // 2] * 2 * MICRO_STEPS
    assert collecting == [False, False, True]


def test_rounds_are_compared_with_the_same_rounds_steps_as_they_are() -> None:
    calls: list[str] = []
    steps = {name: lambda name=name: calls.append(name) for name in (variants.AS_IT_IS, "other")}  # type: ignore[misc]
    found = variants.compare(steps, rounds=3, count=2, device=CPU)
    assert sorted(calls[2:]) == [variants.AS_IT_IS] * 6 + ["other"] * 6
    assert {name: len(times) for name, times in found.items()} == {variants.AS_IT_IS: 3, "other": 3}
    assert gc.isenabled()
    cost = variants.costs({variants.AS_IT_IS: [10.0, 20.0, 30.0], "other": [11.0, 22.0, 33.0]})
    assert cost == {"other": (pytest.approx(2.0), pytest.approx(1 / 3**0.5))}

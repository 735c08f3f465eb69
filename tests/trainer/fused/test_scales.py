"""float8's scales: a run that goes on from a checkpoint rounds as if it had never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from jobctl.trainer.distributed import World
from jobctl.trainer.fused.fp8 import BACKWARD, FORWARD, HISTORY, Scales
from tests.trainer.running import on_ranks

CPU = torch.device("cpu")


def scales(ranks: int = 1) -> Scales:
    made = Scales(CPU, ranks)
    made.place(FORWARD)
    made.place(BACKWARD)
    made.allocate()
    return made


def train(run: Scales, steps: range) -> None:
    """As many steps, each of which measures other values."""
    for step in steps:
        largest = torch.tensor([1.0 + step % 5, 1e-3 * (1 + step % 7)])
        if run.measuring:
            for place in range(2):
                run.measure(place, largest[place])
        run.amax.copy_(largest)
        run.end_step()


def state(run: Scales) -> list[Tensor]:
    return [run.scale.clone(), run.inverse.clone(), run.history.clone()]


@pytest.mark.parametrize("before", [1, 3, HISTORY + 2])
def test_a_run_that_resumes_has_the_scales_of_the_one_that_went_on(before: int) -> None:
    whole = scales()
    resumed = scales()
    train(whole, range(before))
    resumed.history.copy_(whole.history)
    resumed.resume()
    assert not resumed.measuring
    assert all(map(torch.equal, state(resumed), state(whole)))
    train(whole, range(before, before + 4))
    train(resumed, range(before, before + 4))
    assert all(map(torch.equal, state(resumed), state(whole)))


def test_an_evaluation_leaves_no_trace_in_the_scales() -> None:
    whole = scales()
    resumed = scales()
    train(whole, range(3))
    whole.amax.fill_(1000.0)
    whole.forget_evaluation()
    resumed.history.copy_(whole.history)
    resumed.resume()

    for run in (whole, resumed):
        run.amax.copy_(torch.maximum(run.amax, torch.tensor([1.0, 1e-3])))
        run.end_step()

    assert all(map(torch.equal, state(resumed), state(whole)))


def test_without_a_history_the_first_step_measures() -> None:
    resumed = scales()
    resumed.resume()
    assert resumed.measuring


def test_an_overflow_is_no_scale() -> None:
    run = scales()
    train(run, range(2))
    before = run.scale.clone()
    run.amax.fill_(float("inf"))
    run.end_step()
    assert torch.equal(run.scale, before)


def of_rank(command: Sequence[str], world: World) -> dict[str, Any]:
    run = scales(world.size)
    run.amax.copy_(torch.tensor([1.0 + world.rank, 4.0 - world.rank]))
    run.end_step()
    return {"history": run.history[0].tolist()}


def test_all_ranks_take_the_largest_value_of_any() -> None:
    (result,) = cast("list[dict[str, Any]]", on_ranks(2, [], action=of_rank))
    assert result["history"] == [2.0, 4.0]

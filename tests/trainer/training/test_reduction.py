"""Gradients cross between ranks once a step, in float32, however many micro-steps make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jobctl.trainer.distributed import World, named_parameters
from tests.trainer.corpus import SHARDINGS, arguments, write_corpus
from tests.trainer.running import on_ranks, prepare

pytestmark = pytest.mark.xdist_group("reduction")  # each worker would train the ranks anew
MICRO_STEPS = 4
Collective = tuple[str, str, int]
"""Operation, type, and elements on this rank: the larger of what goes in and what comes out."""


class Collectives(TorchDispatchMode):
    """Writes down what c10d is asked for, also by DDP's C++."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Collective] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            largest = max(tensors, key=torch.Tensor.numel)
            self.seen.append((func._opname, str(largest.dtype), largest.numel()))
        return func(*args, **(kwargs or {}))


def one_step(command: Sequence[str], world: World) -> tuple[int, list[Collective]]:
    """The model's size, and the collectives of its second step; in the first, DDP still arranges its buckets."""
    training = prepare(command, world)
    batches = training.batches()
    training.take_step(batches)
    with Collectives() as collectives:
        training.take_step(batches)
    whole = sum(parameter.numel() for parameter in named_parameters(training.run.stepper.model).values())
    return whole, collectives.seen


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[Collective]]]:
    folder = tmp_path_factory.mktemp("reduction")
    data = write_corpus(folder / "data")
    common = {"gradient_accumulation_steps": MICRO_STEPS, "dtype": "bfloat16"}
    commands = [arguments(data, folder / name, **mode, **common) for name, mode in SHARDINGS.items()]
    return dict(zip(SHARDINGS, cast("list[Any]", on_ranks(2, *commands, action=one_step)), strict=True))


@pytest.mark.parametrize("mode", SHARDINGS)
def test_each_gradient_is_reduced_once_a_step_in_float32(steps: dict[str, Any], mode: str) -> None:
    whole, seen = steps[mode]
    reduced = [(kind, count) for operation, kind, count in seen if "reduce" in operation]
    assert {kind for kind, _ in reduced} == {"torch.float32"}
    assert whole <= sum(count for _, count in reduced) < 1.01 * whole  # the rest: loss, norms, padding


@pytest.mark.skipif("zero1" not in SHARDINGS, reason="this torch shards on GPUs only")
def test_sharded_weights_are_gathered_in_bfloat16_once_a_step_or_for_each_pass(steps: dict[str, Any]) -> None:
    gathered = {}
    for mode in ("zero1", "fsdp"):
        whole, seen = steps[mode]
        kinds, counts = zip(
            *((kind, count) for operation, kind, count in seen if "allgather" in operation), strict=True
        )
        assert set(kinds) == {"torch.bfloat16"}
        gathered[mode] = sum(counts) / whole
    assert gathered["zero1"] == pytest.approx(1, rel=0.01)
    assert MICRO_STEPS < gathered["fsdp"] < 2 * MICRO_STEPS  # twice, but what lies outside the blocks stays

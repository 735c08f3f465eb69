"""Estimated steps against trainings: on the card of the rates, and on cards that nothing was fitted to."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from bench.activation_memory import CHANGED
from bench.document import RESULTS
from bench.estimate_memory import situation
from jobctl.jobs.catalog.loader import load_hardware
from jobctl.jobs.estimate.rates import rates_of
from jobctl.jobs.estimate.situation import Situation
from jobctl.jobs.estimate.speed import Speed, speed
from tests.jobs.estimate.trainings import training


def timed(situation: Situation, hardware: str = "h200") -> Speed:
    """Return the estimate by the catalogue's rates of ``hardware``."""
    known = rates_of(load_hardware(hardware))
    assert known is not None
    return speed(situation, known)


# Medians of whole steps: model, batch, micro-steps, way, ranks, milliseconds. docs/performance.md.
H200 = [
    ("qwen3_1.8b", 16, 8, "fused", 1, 4248.3),
    ("llama3_1.5b", 16, 8, "fused", 1, 3529.9),
    ("llama3_2.2b", 16, 8, "fused", 1, 5317.5),
    ("llama2_1.36b", 16, 8, "fused", 1, 3443.2),
    ("gpt2_1.36b", 32, 4, "fused", 1, 3311.3),
    ("qwen3_1.8b", 16, 8, "float8", 1, 3281.7),
    ("llama3_1.5b", 16, 8, "float8", 1, 2671.6),
    ("gpt2_1.36b", 32, 2, "float8", 1, 1241.0),
]
SEVERAL = [
    ("llama3_1.5b", 8, 8, "ddp", 2, 1873.9),
    ("llama3_1.5b", 16, 8, "zero1", 2, 3628.6),
    ("qwen3_1.8b", 16, 8, "ddp", 2, 4411.6),
    ("qwen3_1.8b", 16, 8, "fsdp", 2, 4410.8),
    ("qwen3_1.8b", 16, 8, "zero1", 4, 4456.1),
]
H100 = [
    ("llama3_1.5b", 8, 8, "fused", 1, 1890.7),
    ("qwen3_1.8b", 8, 8, "fused", 1, 2275.1),
    ("llama3_1.5b", 8, 8, "float8", 1, 1448.2),
    ("qwen3_1.8b", 8, 8, "float8", 1, 1763.7),
    ("llama3_1.5b", 8, 8, "compiled", 1, 2588.8),
    ("qwen3_1.8b", 8, 8, "compiled", 1, 3108.5),
]
Row = tuple[str, int, int, str, int, float]


def error(row: Row, hardware: str = "h200") -> float:
    """Return the relative error of a row's estimate."""
    model, batch, micro_steps, way, ranks, milliseconds = row
    situation = training(
        model, batch, way, hardware=hardware, ranks=ranks, gradient_accumulation_steps=micro_steps
    )
    return timed(situation, hardware).seconds * 1e3 / milliseconds - 1


@pytest.mark.parametrize("row", H200, ids=str)
def test_a_step_on_the_card_of_the_rates_is_within_five_percent(row: Row) -> None:
    assert abs(error(row)) < 0.05


@pytest.mark.parametrize("row", SEVERAL, ids=str)
def test_several_gpus_are_foretold_from_one(row: Row) -> None:
    assert abs(error(row)) < 0.05


@pytest.mark.parametrize("row", H100, ids=str)
def test_an_h100_is_foretold_from_an_h200(row: Row) -> None:
    # None of these trainings was used for the rates.
    assert abs(error(row, "h100")) < 0.05


@pytest.mark.parametrize(("way", "milliseconds"), [("compiled", 1437.5), ("eager", 2100.8)])
def test_a_plain_step_is_within_its_range(way: str, milliseconds: float) -> None:
    estimated = timed(training("qwen3_1.8b", 8, way, gradient_accumulation_steps=4))
    assert estimated.least * 1e3 < milliseconds < estimated.most * 1e3
    assert estimated.range == pytest.approx(0.1)


def test_the_parts_are_the_whole() -> None:
    estimated = timed(training("qwen3_1.8b", 16, "ddp", ranks=2))
    parts = msgspec.to_builtins(estimated)
    parts.pop("range")
    assert sum(parts.values()) == pytest.approx(estimated.seconds)
    assert all(part > 0 for part in parts.values())


def test_an_extrapolated_step_has_a_wide_range() -> None:
    b200 = timed(training("qwen3_1.8b", 16, hardware="b200"), "b200")
    assert b200.most / b200.least > 1.5
    assert b200.seconds < timed(training("qwen3_1.8b", 16)).seconds / 1.5


def test_a_network_is_slower_than_a_machines_own_links() -> None:
    one = timed(training("qwen3_1.8b", 16, "ddp", ranks=8))
    two = timed(training("qwen3_1.8b", 16, "ddp", ranks=8, ranks_per_node=4))
    assert two.communication == pytest.approx(3 * one.communication)


# Measured after the rates were fitted; steps of two micro-steps, milliseconds.
UNSEEN = "h200-2026-11-29-estimate-memory.json"


def test_shapes_that_nobody_looked_at_are_within_their_range() -> None:
    document = json.loads((RESULTS / UNSEEN).read_text())
    timed_cells = [result for result in document["results"] if "step_ms" in result]
    assert len(timed_cells) == 9
    for result in timed_cells:
        estimated = timed(situation(result, result["batch"]))
        assert estimated.least * 1e3 < result["step_ms"] < estimated.most * 1e3, result["name"]


def test_narrow_models_have_a_wider_range() -> None:
    wide = timed(training("qwen3_1.8b", 8))
    narrow = timed(training("qwen3_1.8b", 8, shape={"hidden_size": 1024}))
    assert narrow.range > wide.range


RECOMPUTED = ("h200-2026-11-29-activation-memory.json", "h200-2026-11-30-activation-memory.json")


def steps_of(name: str) -> list[dict[str, Any]]:
    """Return the timed steps of a result; kernels have changed since the fused "selective" ones of the first."""
    timed_steps = []
    for result in json.loads((RESULTS / name).read_text())["results"]:
        how = (result["kernels"], result["activation_checkpointing"])
        superseded = name == RECOMPUTED[0] and how == ("fused", "selective")
        if result.get("step_ms") and not superseded:
            timed_steps.append(result)

    return timed_steps


def test_steps_that_compute_again_are_within_their_range() -> None:
    measured = [result for name in RECOMPUTED for result in steps_of(name)]
    assert len(measured) == 15
    for result in measured:
        way = "fused" if result["kernels"] == "fused" else "compiled"
        how = result["activation_checkpointing"]
        model, shape = CHANGED.get(result["model"], (result["model"], {}))
        job = training(model, result["batch"], way, shape=shape, activation_checkpointing=how)
        estimated = timed(job)
        assert estimated.least * 1e3 < result["step_ms"] < estimated.most * 1e3, (result["model"], how)

"""Estimated memory against what was measured: on H200s and H100s, and on this machine's CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.activation_memory import CHANGED
from bench.document import RESULTS
from jobctl.jobs.estimate.memory import checkpoint_bytes, chunk_of, host_gib, memory, outside_gib
from jobctl.jobs.estimate.situation import Situation
from jobctl.jobs.estimate.weights import GIB
from tests.jobs.estimate.real_memory import peak_bytes
from tests.jobs.estimate.trainings import on_cpu, training

WITHIN = 0.005
"""Of every measured peak. The issue asks for 2%."""
KERNELS = {
    "fused": "fused",
    "plain, compiled": "compiled",
    "plain": "eager",
    "ours": "fused",
    "ours-fp8": "float8",
    "ours-plain": "compiled",
    "ours-eager": "eager",
}


def results_in(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every measurement of a document that names a peak."""
    if isinstance(document, dict):
        if "peak_gib" in document and "model" in document:
            yield document

        document = list(document.values())

    if isinstance(document, list):
        for part in document:
            yield from results_in(part)


def peaks(name: str) -> Iterator[tuple[str, Situation, float]]:
    """Yield label, training and measured peak of one file of ``bench/results`` that was made on one GPU."""
    for result in results_in(json.loads((RESULTS / name).read_text())):
        way = KERNELS.get(str(result.get("kernels") or result.get("entrant")))
        if way is None:
            continue

        block = result.get("block", 2048)
        for batch, peak in result["peak_gib"].items():
            situation = training(
                result["model"], int(batch), way, shape=result.get("shape"), block_size=block
            )
            yield f"{result['model']} {way} {batch}", situation, float(peak)


def parallel_peaks(name: str) -> Iterator[tuple[str, Situation, float]]:
    """The same of a file of several GPUs."""
    for result in results_in(json.loads((RESULTS / name).read_text())):
        way = result["way"]
        if way not in ("none", "plain", "ddp", "zero1", "fsdp"):
            continue

        settings: dict[str, Any] = {"use_fp8": result["tier"] == 4, "use_cuda_graphs": result["tier"] >= 3}
        if "plain:" in result["note"]:
            settings |= {"kernels": "plain"}

        ranks = 1 if way in ("none", "plain") else result["gpus"]
        situation = training(
            result["model"],
            result["batch"],
            way if way != "none" and way != "plain" else "fused",
            ranks=ranks,
            gradient_accumulation_steps=result["accumulation"],
            **settings,
        )
        yield f"{result['model']} {way} ×{ranks} {result['batch']}", situation, result["peak_gib"]


def errors(cells: Iterator[tuple[str, Situation, float]]) -> dict[str, float]:
    """Return the relative error of each estimate."""
    return {label: memory(situation).total / GIB / peak - 1 for label, situation, peak in cells}


ONE_GPU = [
    "h200-2026-11-27-peers.json",
    "h200-2026-11-28-memory.json",
    "h200-2026-11-28-memory-2.json",
    "h200-2026-11-28-plain.json",
    "h200-2026-11-25-fp8.json",
]
SEVERAL_GPUS = [
    "h100x2-2026-11-25-sharded.json",
    "h200x2-2026-11-28-full-2.json",
    "h200x4-2026-11-28-full.json",
]


@pytest.mark.parametrize("name", ONE_GPU)
def test_one_gpu_takes_what_was_measured(name: str) -> None:
    found = errors(peaks(name))
    assert len(found) >= 3
    assert {label: error for label, error in found.items() if abs(error) > WITHIN} == {}


@pytest.mark.parametrize("name", SEVERAL_GPUS)
def test_several_gpus_take_what_was_measured_under_each_sharding(name: str) -> None:
    found = errors(parallel_peaks(name))
    assert len(found) >= 3
    assert {label: error for label, error in found.items() if abs(error) > WITHIN} == {}


@pytest.mark.parametrize("model", ["gpt2_smoke", "llama2_smoke", "llama3_smoke", "qwen3_smoke"])
@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (16, 2)])
def test_a_smoke_model_takes_what_this_machines_allocator_gives_away(
    model: str, batch: int, accumulation: int
) -> None:
    situation = on_cpu(model, batch, gradient_accumulation_steps=accumulation)
    assert memory(situation).total == pytest.approx(peak_bytes(situation), rel=0.005)


def test_the_parts_add_up_to_the_total() -> None:
    parts = memory(training("qwen3_1.8b", 16)).gib()
    total = parts.pop("total")
    assert sum(parts.values()) == pytest.approx(total, abs=1e-3)
    assert min(parts.values()) >= 0


def test_the_fixed_part_is_18_bytes_a_parameter() -> None:
    for model in ("qwen3_1.8b", "llama3_1.5b", "llama3_2.2b", "llama2_1.36b", "gpt2_1.36b"):
        situation = training(model, 8)
        parameters = checkpoint_bytes(situation) / 12
        assert 17.9 <= memory(situation).fixed.total / parameters <= 18.2


def test_more_than_twelve_gib_of_logits_are_made_in_chunks() -> None:
    # 20 sequences of Qwen3 are 11.6 GiB of logits, 21 are 12.2.
    whole = memory(training("qwen3_1.8b", 20))
    chunked = memory(training("qwen3_1.8b", 21))
    assert whole.logits == 20 * 2048 * 151936 * 2
    assert chunked.logits <= 2**31
    assert chunked.total < whole.total


def test_the_plain_loss_takes_equal_chunks() -> None:
    assert chunk_of(training("llama2_1.36b", 8, "compiled")) == (16384, 1)
    assert chunk_of(training("llama2_1.36b", 16, "compiled")) == (16384, 2)
    assert chunk_of(training("qwen3_1.8b", 8, "compiled")) == (3328, 5)


def test_long_sequences_with_a_small_vocabulary_peak_in_attention() -> None:
    situation = training("gpt2_1.36b", 1, shape={"vocab_size": 512}, block_size=2048)
    assert memory(situation).moment == "the last block's attention"


def test_one_micro_step_of_a_plain_training_may_peak_when_all_gradients_are_there() -> None:
    situation = training(
        "llama2_1.36b", 1, "eager", block_size=64, gradient_accumulation_steps=1, shape={"vocab_size": 256}
    )
    assert memory(situation).moment == "the end of the backward pass"


def test_what_lies_beside_the_allocator() -> None:
    alone = outside_gib(training("qwen3_1.8b", 8))
    several = outside_gib(training("qwen3_1.8b", 8, "ddp", ranks=8))
    peers = outside_gib(training("qwen3_1.8b", 8, "fsdp", ranks=8))
    assert 0.3 < alone < several < peers
    assert outside_gib(on_cpu("qwen3_smoke", 4)) < 1


def test_a_save_pins_a_share_of_the_state() -> None:
    # docs/performance.md measured 21.96 GB of state for this model.
    situation = training("qwen3_1.8b", 8, "ddp", ranks=4)
    assert checkpoint_bytes(situation) / 1e9 == pytest.approx(21.96, abs=0.01)
    assert host_gib(situation) == pytest.approx(21.96e9 / 4 / GIB, abs=0.01)


def test_the_results_are_there() -> None:
    assert all((Path(RESULTS) / name).is_file() for name in ONE_GPU + SEVERAL_GPUS)


UNSEEN = "h200-2026-11-29-estimate-memory.json"


def test_shapes_that_nobody_looked_at_take_what_was_measured() -> None:
    # A LLaMA of 3.2B, a Qwen3 of 0.6B and sequences of 4,096, and the largest batches: measured after the counts.
    found = errors(peaks(UNSEEN))
    assert len(found) >= 12
    assert {label: error for label, error in found.items() if abs(error) > WITHIN} == {}


RECOMPUTED = ("h200-2026-11-29-activation-memory.json", "h200-2026-11-30-activation-memory.json")


def test_blocks_that_backward_computes_again_take_what_was_measured() -> None:
    found: dict[str, float] = {}
    results = [
        result for name in RECOMPUTED for result in results_in(json.loads((RESULTS / name).read_text()))
    ]
    for number, result in enumerate(results):
        how = result["activation_checkpointing"]
        if not result.get("peak_gib"):
            continue

        way = "fused" if result["kernels"] == "fused" else "compiled"
        name = result["model"]
        model, shape = CHANGED.get(name, (name, {}))
        situation = training(model, result["batch"], way, shape=shape, activation_checkpointing=how)
        found[f"{number} {name} {way} {how}"] = memory(situation).total / GIB / result["peak_gib"] - 1

    assert len(found) == 17
    assert {label: error for label, error in found.items() if abs(error) > WITHIN} == {}


def test_offload_keeps_the_input_of_the_activation_of_half_of_the_blocks_on_the_host() -> None:
    selective, offload = (
        training("llama3_2.2b", 8, shape=CHANGED["llama3_3.6b"][1], activation_checkpointing=how)
        for how in ("selective", "offload")
    )
    # 14 of 28 blocks, 8 x 2,048 tokens, gate and up of 8,192 each in bfloat16.
    left = 14 * 8 * 2048 * 2 * 8192 * 2
    assert host_gib(offload) - host_gib(selective) == pytest.approx(left / GIB)

    less = memory(selective).total - memory(offload).total
    # The loss is computed in pieces of 512 MiB: its logits take less, and the head's gradient is apart.
    vocabulary, hidden = offload.model.vocab_size, 3072
    whole = 8 * 2048 * vocabulary * 2
    pieces = 2**29 // (2 * vocabulary) // 128 * 128 * vocabulary * 2 + 4 * vocabulary * hidden
    assert less == left + whole - pieces


def test_less_kept_makes_a_larger_batch_fit() -> None:
    peaks_by_way = [
        memory(training("qwen3_1.8b", 8, way, activation_checkpointing=how)).total
        for way in ("fused", "float8", "compiled", "eager")
        for how in ("none", "selective", "full")
    ]
    for none, selective, full in zip(*[iter(peaks_by_way)] * 3, strict=True):
        assert full < selective < none

"""The cells of the benchmark of estimates, and how they are told."""

from __future__ import annotations

import pytest

from bench import estimate_memory
from bench.estimate_memory import MODELS, WAYS, cells, line, situation
from jobctl.jobs.catalog.consistency import check_model
from jobctl.jobs.estimate.memory import memory
from jobctl.jobs.estimate.weights import GIB


def test_every_model_is_measured_in_every_way() -> None:
    asked = {(job["model"], job["entrant"]) for job in cells() if job["name"] in MODELS and job["steps"]}
    assert asked == {(model, way) for model in MODELS for way in WAYS}


def test_what_nobody_looked_at_comes_first_and_can_be_built() -> None:
    names = [job["name"] for job in cells()]
    assert names[0] == "llama3 3B"
    assert names.index("qwen3 0.6B") < names.index("qwen3_1.8b")
    for job in cells():
        check_model(situation(job, 1).model)
        assert job["block"] <= situation(job, 1).model.max_position_embeddings


def test_the_largest_batch_is_asked_for_with_one_sequence_more() -> None:
    pairs = [job for job in cells() if "expected_largest_batch" in job]
    assert len(pairs) == 2 * (len(MODELS) + 2)
    for more, fitting in zip(pairs[::2], pairs[1::2], strict=True):
        assert more["batch"] == fitting["batch"] + 1 == fitting["expected_largest_batch"] + 1


def test_the_estimate_is_of_the_job_that_is_measured() -> None:
    job = next(job for job in cells() if job["entrant"] == "ours-fp8")
    assert situation(job, 8).float8
    assert situation(job, 8).tokens == 8 * job["block"]
    eager = next(job for job in cells() if job["entrant"] == "ours-eager")
    assert situation(eager, 4).path == "eager"


def test_a_line_names_the_error_and_what_failed() -> None:
    job = next(cells())
    estimated = {str(size): memory(situation(job, size)).total / GIB for size in (4, 10)}
    base = job | {"estimated_gib": estimated}
    measured = {str(size): gib * 1.01 for size, gib in estimated.items()}
    text = line(base | {"peak_gib": measured, "reserved_gib": measured, "step_ms": 123.4})
    assert text.count("-0.99%") == 2
    assert text.endswith("step of 2 × 10: 123.4 ms")
    assert "out of memory" in line(base | {"error": "OutOfMemoryError: CUDA out of memory"})


def test_a_probe_that_fails_is_named_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_memory.sys, "executable", "/bin/false")
    assert "error" in estimate_memory.run_probe()

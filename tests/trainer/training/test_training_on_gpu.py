"""What only a GPU can show of the run side. Everything else about training is tested on the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from jobctl.jobs.core.layout import stop_file
from jobctl.trainer import distributed as parallel
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.training.repeatable import tell_torch
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import losses, prepare, records, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
FLAGS: dict[str, Any] = {"device": "cuda", "dtype": "bfloat16", "head_dim": 64, "hidden_size": 128}
REPEATED: dict[str, Any] = {"deterministic": "on", "block_size": 64, "batch_size": 8}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "data")


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """A run tells torch for the whole process whether to be deterministic."""
    yield
    tell_torch(deterministic=False)


def gpu() -> parallel.World:
    return parallel.World(rank=0, size=1, device=torch.device("cuda", 0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"compile": True},
        {"dtype": "float16"},
        {"skip_loss_spikes": 5.0},
        {"use_cuda_graphs": True},
        {"activation_checkpointing": "offload", "num_hidden_layers": 6},
    ],
)
def test_a_step_never_waits_for_the_device(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    training = prepare(arguments(data, tmp_path / "run", **FLAGS | changes), gpu())
    batches = training.batches()
    for _ in range(3):  # the first steps compile and allocate, and the third captures graphs
        training.take_step(batches)
    training.flush()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            training.take_step(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    training.flush()
    assert len(losses(tmp_path / "run")) == 6


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs logged the same and ended with the same bits."""
    ours = load_model_weights(one)[1]
    theirs = load_model_weights(other)[1]
    return records(one) == records(other) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "changes",
    [{}, {"use_fp8": True}, {"use_fp8": True, "eval_interval": 1}, {"use_cuda_graphs": True}],
)
def test_stop_and_resume_change_no_bit(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    flags = FLAGS | REPEATED | changes
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    assert train(arguments(data, whole, **flags), gpu()) == 0
    parts.mkdir()
    stop_file(parts).touch()
    assert train(arguments(data, parts, **flags), gpu()) == 200
    stop_file(parts).unlink()
    assert train(arguments(data, parts, **flags), gpu()) == 0
    assert same_run(parts, whole)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_fp8": True},
        {"document_masking": True},
        {"attention_backend": "sdpa"},
        {"kernels": "plain"},
        {"kernels": "plain", "compile": True},
    ],
)
def test_two_runs_have_the_same_bits(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    for name in ("one", "other"):
        assert train(arguments(data, tmp_path / name, **FLAGS | REPEATED | changes), gpu()) == 0
    assert records(tmp_path / "one", "start")[0]["startup_info"]["repeatable"]
    assert same_run(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(
    "changes", [{}, {"document_masking": True}, {"use_fp8": True}, {"skip_loss_spikes": 5.0}]
)
def test_cuda_graphs_change_no_bit(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    flags = FLAGS | changes | {"gradient_accumulation_steps": 3, "max_iters": 8}
    eager = tmp_path / "eager"
    graphed = tmp_path / "graphed"
    assert train(arguments(data, eager, **flags), gpu()) == 0
    assert train(arguments(data, graphed, use_cuda_graphs=True, **flags), gpu()) == 0
    assert records(graphed, "start")[0]["startup_info"]["cuda_graphs"]
    assert same_run(graphed, eager)


def test_the_facts_of_the_gpu_are_logged(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path / "run", profile=True, max_iters=8, **FLAGS), gpu()) == 0
    timing = records(tmp_path / "run", "timing")[-1]
    assert timing["memory_peak_gb"] > 0
    assert {"compute_ms", "optimizer_ms", "data_wait_ms"} <= timing.keys()
    peak = records(tmp_path / "run", "start")[0]["startup_info"]["peak_flops"]
    assert ("mfu" in timing) == (peak is not None)

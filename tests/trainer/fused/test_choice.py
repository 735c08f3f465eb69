"""The fused kernels are chosen only where they run, and a run says what was chosen and why."""

from __future__ import annotations

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import World
from jobctl.trainer.fused.choice import fp8_obstacle, fuse, obstacle
from jobctl.trainer.models.attention import ManualAttention
from tests.trainer.models import tiny

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
HOST = World(rank=0, size=1, device=CPU)


def config(**changes: object) -> TrainConfig:
    return msgspec.structs.replace(TrainConfig(), **changes)


def test_auto_takes_the_plain_path_on_a_cpu_and_leaves_the_model_as_it_is() -> None:
    model = tiny.model("qwen3")
    loss = model.cross_entropy
    chosen = fuse(model, ManualAttention(), config(), "none", HOST)
    assert chosen.decoder is None
    assert chosen.words == "plain: they need an NVIDIA GPU"
    assert model.fused is None
    assert model.cross_entropy is loss


def test_asking_for_what_cannot_run_is_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match="they need an NVIDIA GPU"):
        fuse(tiny.model("qwen3"), ManualAttention(), config(kernels="fused"), "none", HOST)


def test_a_training_that_offloads_does_not_run_without_the_fused_kernels() -> None:
    offloads = config(activation_checkpointing="offload")
    with pytest.raises(
        UserError, match="needs the fused kernels, which cannot run here: they need an NVIDIA GPU"
    ):
        fuse(tiny.model("qwen3"), ManualAttention(), offloads, "none", HOST)


def test_float8_that_cannot_run_is_said_to_be_left_out() -> None:
    chosen = fuse(tiny.model("qwen3"), ManualAttention(), config(use_fp8=True), "none", HOST)
    assert "float8 is left out" in chosen.words


@pytest.mark.parametrize(
    ("capability", "changes", "reason"),
    [
        ((9, 0), {}, ""),
        ((8, 6), {}, ""),
        ((7, 5), {}, "8.0"),
        ((9, 0), {"dtype": "float16"}, "float16"),
    ],
)
def test_each_obstacle_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    changes: dict[str, object],
    reason: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("jobctl.trainer.fused.choice.find_spec", lambda _: object())
    found = obstacle(config(**changes), GPU)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("capability", "sharding", "reason"),
    [((9, 0), "ddp", ""), ((9, 0), "zero1", ""), ((8, 6), "none", "8.9"), ((9, 0), "fsdp", "fsdp gathers")],
)
def test_each_obstacle_of_float8_is_named(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], sharding: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = fp8_obstacle(sharding, GPU)
    assert reason in found
    assert bool(found) == bool(reason)


def test_without_triton_the_plain_path_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("jobctl.trainer.fused.choice.find_spec", lambda _: None)
    assert "triton" in obstacle(config(), GPU)


@pytest.mark.parametrize(("kernels", "fuses"), [("auto", True), ("plain", False)])
def test_blocks_that_stay_plain_leave_the_loss_to_be_fused_unless_plain_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, kernels: str, fuses: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("jobctl.trainer.fused.choice.find_spec", lambda _: object())
    model = tiny.model("qwen3")
    before = model.cross_entropy
    chosen = fuse(
        model, ManualAttention(), config(kernels=kernels, dtype="float16"), "fsdp", World(0, 2, GPU)
    )
    assert chosen.decoder is None
    assert (model.cross_entropy is not before) == fuses
    assert ("cross-entropy fused" in chosen.words) == fuses

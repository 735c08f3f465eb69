"""Where micro-steps are CUDA graphs, and why not elsewhere."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.training.graphs import obstacle


def test_a_training_that_offloads_takes_steps_without_graphs() -> None:
    train = TrainConfig(use_cuda_graphs=True, activation_checkpointing="offload")
    assert obstacle(train, fused=True, sharding="none") == "the copies to the host run beside them"


@pytest.mark.parametrize(
    ("asked", "fused", "sharding", "reason"),
    [
        (False, True, "ddp", "not asked for"),
        (True, False, "ddp", "they need the fused kernels"),
        (True, True, "fsdp", "the weights that fsdp gathers depend on the step before"),
        (True, True, "zero1", ""),
        (True, True, "ddp", ""),
    ],
)
def test_steps_without_graphs_have_a_reason(asked: bool, fused: bool, sharding: str, reason: str) -> None:
    assert obstacle(TrainConfig(use_cuda_graphs=asked), fused, sharding) == reason

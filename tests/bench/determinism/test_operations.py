"""Every operation that the benchmark repeats runs in the shapes of every architecture; attention has its own tests."""

from __future__ import annotations

import pytest
import torch

from bench.determinism.bits import repeat
from bench.determinism.operations import Operations
from tests.trainer.models import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", ["qwen3", "gpt2"])
def test_on_a_cpu_every_operation_repeats(shape: str) -> None:
    operations = Operations(tiny.config(shape), 2, CPU, length=8)
    seen = {name: run for name, run in operations.all() if not name.startswith("attention")}
    assert {"add and norm", "embedding", "head and loss", "gradient norms", "AdamW"} <= seen.keys()
    assert ("q/k-norm and rotation" in seen) == (shape == "qwen3")
    for name, run in seen.items():
        assert repeat(run, 2, lambda: None) == {}, name
        assert all(tensor.isfinite().all() for tensor in run().values()), name


def test_an_operation_gives_outputs_and_the_gradients_of_inputs_and_parameters() -> None:
    operations = Operations(tiny.config("qwen3"), 2, CPU, length=8)
    outputs = operations.rotation()()
    shapes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    assert shapes == {
        "output 0": (2, 8, 4, 16), "output 1": (2, 8, 2, 16), "output 2": (2, 8, 2, 16),
        "gradient 0": (2, 8, 128), "gradient 1": (16,), "gradient 2": (16,),
    }  # fmt: skip

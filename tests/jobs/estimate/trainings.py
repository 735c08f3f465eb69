"""Trainings for the tests of this room: on one GPU, over several, and really on this machine's CPU."""

from __future__ import annotations

from typing import Any

import msgspec

from jobctl.jobs.catalog.loader import load_hardware, load_model
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.estimate.situation import Situation

WAYS: dict[str, dict[str, Any]] = {
    "fused": {},
    "float8": {"use_fp8": True},
    "compiled": {"kernels": "plain"},
    "eager": {"kernels": "plain", "compile": False},
    "ddp": {},
    "zero1": {"use_zero1": True},
    "fsdp": {"use_fsdp": True},
}


def training(
    model: str,
    batch: int,
    way: str = "fused",
    *,
    hardware: str = "h200",
    ranks: int = 1,
    ranks_per_node: int = 8,
    shape: dict[str, Any] | None = None,
    **settings: Any,
) -> Situation:
    """Return a training of a model of the catalogue, two micro-steps a step unless ``settings`` say otherwise."""
    entry = load_model(model)
    base = {"batch_size": batch, "gradient_accumulation_steps": 2}
    train = msgspec.structs.replace(
        msgspec.convert(entry.train, TrainConfig), **(base | WAYS[way] | settings)
    )

    return Situation(
        model=msgspec.structs.replace(entry.config, **(shape or {})),
        train=train,
        facts=load_hardware(hardware).facts,
        ranks=ranks,
        ranks_per_node=ranks_per_node,
        gpu=hardware != "cpu",
    )


def on_cpu(model: str, batch: int, **settings: Any) -> Situation:
    """Return a smoke model's training on this machine, alone."""
    return training(model, batch, "eager", hardware="cpu", dtype="float32", **settings)

"""Whole models: which parameters' gradients differ when one step is repeated, with each way of attention."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import msgspec
import torch

from bench.determinism.attentions import Exchangeable, told
from bench.determinism.bits import Disturbance, repeat
from bench.determinism.subject import batches, build, configuration

SHOWN = 4
"""Parameters that are named, in the order in which the backward pass reaches them."""


def trials(
    model: str, ways: list[str], kernels: str, batch: int, layers: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """One trial for each way of attention."""
    device = torch.device("cuda", 0)
    config, train = configuration(model, layers)
    train = msgspec.structs.replace(train, kernels=kernels, compile=False, batch_size=batch)
    subject = build(config, train, device)
    assert isinstance(subject.attention, Exchangeable)
    tokens = next(batches(config, batch))
    disturb = Disturbance(device)
    for way in ways:
        subject.attention.exchange(way)
        trial = {
            "model": model,
            "kernels": kernels,
            "batch": batch,
            "layers": config.num_hidden_layers,
            "way": way,
        }
        try:
            with told(way):
                worst = repeat(lambda: subject.gradients(tokens), repeats, disturb)
        except Exception as error:  # a kernel that cannot run says so in many types
            yield trial | {"error": str(error).splitlines()[0][:200]}
            continue
        ordered = [name for name in subject.gradients(tokens) if name in worst]
        yield trial | {
            "repeats": repeats, "parameters": len(subject.parameters()), "differ": len(ordered),
            "first": {name: worst[name] for name in ordered[:SHOWN]}, "note": subject.note,
        }  # fmt: skip
    subject.stepper.optimizer.state.clear()
    gc.collect()
    torch.cuda.empty_cache()

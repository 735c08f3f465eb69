"""A model with the trainer's own step, whose attention can be exchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from bench.determinism.attentions import Exchangeable
from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.trainer import distributed as parallel
from jobctl.trainer.fused.choice import fuse
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.training.step import Stepper

LENGTH = 2048


@dataclasses.dataclass
class Subject:
    config: ModelConfig
    attention: Attention
    stepper: Stepper
    timer: StepTimer
    note: str

    def gradients(self, tokens: Tensor) -> dict[str, Tensor]:
        """The loss of one micro-step and each parameter's gradient, the last parameter's first; until the next call."""
        for parameter in self.stepper.gradients.parameters:
            parameter.grad = None
        loss = self.stepper.micro_step(tokens, last=True)
        names = parallel.named_parameters(self.stepper.model)
        gradients = {name: parameter.grad for name, parameter in reversed(names.items())}
        return {"loss": loss} | {name: grad for name, grad in gradients.items() if grad is not None}

    def parameters(self) -> list[Tensor]:
        return list(parallel.named_parameters(self.stepper.model).values())


def configuration(model: str, layers: int = 0) -> tuple[ModelConfig, TrainConfig]:
    """The catalogue's, with the first ``layers`` blocks only (0: all)."""
    entry = load_model(model)
    config = entry.config
    if layers:
        config = msgspec.structs.replace(config, num_hidden_layers=layers)
    return config, msgspec.convert(entry.train, TrainConfig)


def build(
    config: ModelConfig, train: TrainConfig, device: torch.device, attention: Attention | None = None
) -> Subject:
    """The model from its seed, with an exchangeable attention if none is given."""
    attention = attention or Exchangeable()
    torch.manual_seed(train.seed)
    with torch.device(device):
        model = build_model(config, attention)
    if train.compile:
        for block in model.blocks:
            block.compile()
    world = parallel.World(rank=0, size=1, device=device)
    kernels = fuse(model, attention, train, "none", world)
    fused = kernels.decoder
    note = kernels.words
    optimizer = build_optimizer(model, train, "none", fused)
    stepper = Stepper(model, optimizer, train, world, "none", eos_id=0, fused=fused)
    return Subject(config, attention, stepper, StepTimer(device), note)


def batches(config: ModelConfig, batch: int, seed: int = 0) -> Iterator[Tensor]:
    """Endless pinned batches ``[batch, LENGTH + 1]`` in which, as in text, few ids make most of it."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        share = torch.rand(batch, LENGTH + 1, generator=generator).pow(6)
        yield (share * config.vocab_size).long().pin_memory()

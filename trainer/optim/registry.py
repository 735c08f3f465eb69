"""The optimisers, by the values of the setting ``optimizer``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.trainer.distributed import Sharding, named_parameters
from jobctl.trainer.optim.adamw import build_adamw, build_torch_adamw
from jobctl.trainer.optim.groups import Parameters
from jobctl.trainer.optim.protocol import Optimizer

if TYPE_CHECKING:
    from jobctl.trainer.fused.fused_decoder import FusedDecoder

    Builder = Callable[[Parameters, TrainConfig, FusedDecoder | None], Optimizer]


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimiser.

    ``shardable`` means that the update of an element needs no other element of its matrix.
    """

    build: Builder
    shardable: bool


_optimizers = {
    "adamw": OptimizerEntry(build_adamw, shardable=True),
    "torch_adamw": OptimizerEntry(build_torch_adamw, shardable=True),
}


def register(name: str, entry: OptimizerEntry) -> None:
    """Add an optimiser from outside this folder."""
    _optimizers[name] = entry


def optimizer_names() -> list[str]:
    """Return the name of every optimiser, sorted."""
    return sorted(_optimizers)


def build_optimizer(
    model: nn.Module, train: TrainConfig, sharding: Sharding = "none", fused: FusedDecoder | None = None
) -> Optimizer:
    """Return the optimiser that ``train`` names, over the parameters of a model in its final layout.

    Raises UserError for an unknown name, and for an optimiser that needs whole matrices if each rank holds
    only a part.
    """
    name = train.optimizer
    if name not in _optimizers:
        raise UserError(f"unknown optimizer '{name}'; {nearest(name, _optimizers)}")

    entry = _optimizers[name]
    # Before it is built: its steps would run, and give other weights without a word.
    if sharding in ("zero1", "fsdp") and not entry.shardable:
        raise UserError(
            f"optimizer: {name} needs whole matrices, and {sharding} leaves each rank a part of them",
            hint="leave use_zero1 and use_fsdp off, or take optimizer: adamw",
        )

    return entry.build(named_parameters(model), train, fused)

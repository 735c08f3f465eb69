"""A training as the arithmetic needs it: its shapes, its kernels, and its division over the ranks."""

from __future__ import annotations

from typing import Literal

import msgspec

from jobctl.jobs.catalog.entries import FamilyEntry, HardwareEntry
from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.catalog.schema import HardwareFacts, ModelConfig, TrainConfig
from jobctl.jobs.spec.job_spec import TrainSpec

KernelPath = Literal["fused", "compiled", "eager"]
Sharding = Literal["none", "ddp", "zero1", "fsdp"]
WIDE = 4
"""Bytes of a float32."""
NARROW = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of a value in a matrix product, by ``dtype``."""


class Shapes(msgspec.Struct, frozen=True):
    """Widths of a model, each with the letter of the formulas."""

    layers: int
    hidden: int
    queries: int
    """Width of all queries, heads · head_dim."""
    keys: int
    """Width of all keys, and of all values."""
    heads: int
    key_heads: int
    head_dim: int
    inner: int
    """Width inside the feed-forward layer."""
    vocabulary: int


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """One training on one hardware. All other figures of this package follow from it."""

    model: ModelConfig
    train: TrainConfig
    facts: HardwareFacts
    ranks: int
    ranks_per_node: int
    gpu: bool

    @property
    def family(self) -> FamilyEntry:
        """Return the facts of the model's family."""
        return load_family(self.model.architecture)

    @property
    def shapes(self) -> Shapes:
        """Return the model's widths."""
        model = self.model
        return Shapes(
            layers=model.num_hidden_layers,
            hidden=model.hidden_size,
            queries=model.num_attention_heads * model.head_dim,
            keys=model.num_key_value_heads * model.head_dim,
            heads=model.num_attention_heads,
            key_heads=model.num_key_value_heads,
            head_dim=model.head_dim,
            inner=model.intermediate_size,
            vocabulary=model.vocab_size,
        )

    @property
    def tokens(self) -> int:
        """Return the tokens of one micro-batch on one rank."""
        return self.train.batch_size * self.train.block_size

    @property
    def sharding(self) -> Sharding:
        """Return the sharding of weights, gradients and optimiser state that the trainer chooses."""
        if self.ranks == 1:
            return "none"
        if self.train.use_fsdp:
            return "fsdp"
        return "zero1" if self.train.use_zero1 else "ddp"

    @property
    def sharded(self) -> bool:
        """Return whether a rank keeps only its rows of a weight."""
        return self.sharding in ("zero1", "fsdp")

    @property
    def path(self) -> KernelPath:
        """Return the kernels that compute the blocks, as ``trainer/fused`` decides it."""
        # The conditions of `trainer/fused/choice.py`, as far as they need no machine.
        fusible = (
            self.gpu
            and self.train.kernels != "plain"
            and self.train.dtype == "bfloat16"
            and self.family.fused_block
            and capability(self.facts) >= (8, 0)
        )

        if fusible:
            return "fused"
        return "compiled" if self.train.compile and self.gpu else "eager"

    @property
    def float8(self) -> bool:
        """Return whether the blocks multiply in float8."""
        wanted = self.train.use_fp8 and self.path == "fused" and self.sharding != "fsdp"
        return wanted and capability(self.facts) >= (8, 9)

    @property
    def narrow(self) -> int:
        """Return the bytes of a value in a matrix product."""
        return NARROW[self.train.dtype]

    @property
    def repeatable(self) -> bool:
        """Return whether attention's backward pass writes all scores, so that its sums repeat (Hopper)."""
        hopper = capability(self.facts)[0] == 9
        chosen = self.train.attention_backend in ("auto", "cudnn")
        return self.gpu and hopper and chosen and self.train.deterministic != "off"

    @property
    def several_nodes(self) -> bool:
        """Return whether ranks reach each other over a network."""
        return self.ranks > self.ranks_per_node

    def with_batch(self, batch_size: int) -> Situation:
        """Return the same training with another micro-batch."""
        train = msgspec.structs.replace(self.train, batch_size=batch_size)
        return msgspec.structs.replace(self, train=train)


def capability(facts: HardwareFacts) -> tuple[int, int]:
    """Return the CUDA architecture as numbers; (0, 0) without a GPU."""
    major, _, minor = facts.compute_capability.partition(".")
    return int(major or 0), int(minor or 0)


def situation_of(spec: TrainSpec) -> Situation:
    """Return the training that ``spec`` describes."""
    return Situation(
        model=spec.model,
        train=spec.train,
        facts=spec.facts,
        ranks=spec.world_size,
        ranks_per_node=spec.processes_per_node,
        gpu=spec.resources.gpus_per_node > 0,
    )


def usable_gib(machine: HardwareEntry) -> float:
    """Return the GiB of one GPU that a driver gives out: a little less than the GPU's name says."""
    return machine.usable_gib or machine.facts.memory_gib * 0.985

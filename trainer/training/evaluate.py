"""Validation on a fixed, named set of blocks, so that numbers compare across runs and layouts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.prep.shards.format import NoSplit
from jobctl.trainer import distributed as parallel
from jobctl.trainer.data.permutation import key, permute
from jobctl.trainer.data.samples import Blocks, combined_fingerprint, document_ids, open_sources
from jobctl.trainer.models.loss import IGNORED
from jobctl.trainer.options import Source

SEQUENCES = 8
"""Sequences in one of ``eval_iters`` validation batches. The set must not depend on the layout."""


@dataclasses.dataclass(frozen=True)
class ValidationSet:
    """Blocks of the validation split, chosen by its fingerprint alone."""

    blocks: Blocks
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        meta = self.blocks.tokens.meta
        return f"val-{meta.fingerprint[:8]}-T{self.blocks.block_size}-N{len(self.numbers)}"

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of text a token of the validation split stands for, if the data set says so."""
        shards = self.blocks.tokens.shards
        text = sum(s.text_bytes for s in shards)
        tokens = sum(s.tokens for s in shards)
        return text / tokens if text else None


def choose_blocks(blocks: Blocks, wanted: int) -> ValidationSet:
    """``wanted`` blocks (or all there are) scattered over the split in an order of its own."""
    keys = key(combined_fingerprint([blocks.tokens.meta], [1.0]), "validation")
    count = min(wanted, len(blocks))
    # Sorted, so that the blocks are read in the order of the file.
    return ValidationSet(blocks, tuple(sorted(permute(i, len(blocks), keys) for i in range(count))))


def open_validation(sources: Sequence[Source], model: ModelConfig, train: TrainConfig) -> list[ValidationSet]:
    """Return one validation set for each data set; none if no data set has a validation split."""
    found = []
    for source in sources:
        try:
            blocks = open_sources([source], "val", model, train)[0]
        except NoSplit:
            continue

        found.append(choose_blocks(blocks, train.eval_iters * SEQUENCES))

    return found


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean loss in nats a token, and figures that follow from it."""

    name: str
    loss: float
    bytes_per_token: float | None

    @property
    def perplexity(self) -> float:
        # exp of more than 709 is beyond float64, and a run that diverges must still be logged.
        return math.exp(min(self.loss, 700.0))

    @property
    def byte_perplexity(self) -> float | None:
        """Comparable between tokenizers."""
        return math.exp(min(self.loss / self.bytes_per_token, 700.0)) if self.bytes_per_token else None

    def record(self) -> dict[str, str | float]:
        facts: dict[str, str | float] = {
            "set": self.name,
            "val_loss": self.loss,
            "perplexity": self.perplexity,
        }

        if self.byte_perplexity is not None:
            facts["perplexity_per_byte"] = self.byte_perplexity

        return facts

    def __str__(self) -> str:
        per_byte = f", {self.byte_perplexity:.4f} a byte" if self.byte_perplexity is not None else ""
        return f"{self.name}: loss {self.loss:.4f}, perplexity {self.perplexity:.2f} a token{per_byte}"


@torch.no_grad()
def evaluate(
    model: nn.Module,
    chosen: ValidationSet,
    train: TrainConfig,
    world: parallel.World,
    sharding: parallel.Sharding,
    eos_id: int,
    beat: Callable[[], None],
) -> Score:
    """Mean loss over the set's tokens. Each rank reads its share; all make the same number of forward passes."""
    dtype = parallel.TORCH_DTYPES[train.dtype]
    total = torch.zeros((), dtype=torch.float64, device=world.device)
    model.eval()

    for batch in shares(len(chosen.numbers), train.batch_size, world):
        tokens = torch.from_numpy(
            np.stack([chosen.blocks[chosen.numbers[i]] for i in batch if i is not None] or [chosen.blocks[0]])
        ).to(world.device)
        # A rank without a block takes part all the same: sharded weights are gathered by all ranks.
        targets = tokens[:, 1:] if batch[0] is not None else torch.full_like(tokens[:, 1:], IGNORED)
        documents = document_ids(tokens[:, :-1], eos_id) if train.document_masking else None

        with parallel.autocast(sharding, world.device, dtype):
            losses = model(tokens[:, :-1], targets, documents, reduction="none")

        # In float64, where it hardly matters in which order the ranks' shares are added.
        total += losses.sum(dtype=torch.float64)
        beat()

    model.train()
    if world.size > 1:
        dist.all_reduce(total)

    # Of the whole set, and not of this rank's share: the sum above is that of all ranks.
    scored = len(chosen.numbers) * chosen.blocks.block_size

    return Score(chosen.name, total.item() / scored, chosen.bytes_per_token)


def shares(count: int, batch_size: int, world: parallel.World) -> list[list[int | None]]:
    """Return this rank's batches of indices into ``range(count)``; ``[None]`` if only others have one."""
    # All ranks need the same number of rounds, because sharded weights are gathered in each round.
    rounds = -(-count // (batch_size * world.size))
    batches: list[list[int | None]] = []
    for turn in range(rounds):
        begin = (turn * world.size + world.rank) * batch_size
        batches.append(list(range(begin, min(begin + batch_size, count))) or [None])

    return batches

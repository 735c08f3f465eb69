"""Does a micro-step twice now and then, and compares the gradients bit by bit: a GPU that computes wrongly is named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import Sharding, World

INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
"""The integer type with as many bytes as a number of a gradient."""


class WrongBits(Exception):
    """The same work has given other bits. Memory, a GPU or a CPU of this node is at fault."""


class Replay:
    """Keeps the results of the comparisons on the device until the next wait for the device."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.step = 0
        self._outcomes: list[tuple[int, torch.Tensor]] = []

    def begin_step(self, step: int) -> None:
        """Take note of the number of the step that begins."""
        self.step = step

    @property
    def is_due(self) -> bool:
        """Return whether the step's first micro-step is done twice."""
        return bool(self.every) and self.step % self.every == 0

    def compare(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Keep which sums differ; nothing waits for it."""
        self._outcomes.append((self.step, first != second))

    def check(self, names: Sequence[str], world: World) -> None:
        """Raise WrongBits if a comparison since the last check has failed. Waits for the device."""
        outcomes = self._outcomes
        self._outcomes = []

        for step, differ in outcomes:
            wrong = differ.nonzero().flatten().tolist()
            if wrong:
                where = f", GPU {world.device.index}" if world.device.type == "cuda" else ""
                raise WrongBits(
                    f"step {step}: the same micro-batch gave other gradients the second time, on rank {world.rank} "
                    f"({os.uname().nodename}{where}): {len(wrong)} of {len(differ)} tensors differ, the first is "
                    f"{[*names, 'the loss'][wrong[0]]}; this machine computes wrongly"
                )


def bit_sums(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of each tensor's bits, read as integers.

    The order of the sum does not matter. One flipped bit changes it.
    """
    sums = [
        tensor.detach().contiguous().view(INTEGERS[tensor.element_size()]).sum(dtype=torch.int64)
        for tensor in tensors
    ]
    return torch.stack(sums)


def check_can_repeat(train: TrainConfig, sharding: Sharding, unrepeatable: str) -> None:
    """Raise UserError if ``verify_replay`` would compare gradients that may differ."""
    if not train.verify_replay:
        return

    if unrepeatable:
        raise UserError(
            f"--verify_replay={train.verify_replay}, but this run's bits do not repeat: {unrepeatable}",
            hint="--deterministic=on makes them repeat; or remove --verify_replay",
        )

    if sharding not in ("none", "ddp"):
        raise UserError(
            f"--verify_replay={train.verify_replay}, but gradients are sharded ({sharding})",
            hint="it needs one GPU, or whole gradients on each; remove --use_zero1 and --use_fsdp",
        )

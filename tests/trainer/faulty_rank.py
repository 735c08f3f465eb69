"""The trainer's launcher and ranks with one fault, which the environment variable FAULT names. For tests."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch

FAULTY_RANK = "1"
STEP = 3
"""The step, from 0 on, in which the fault shows."""
SLOW_SECONDS = 7.0


def at_step(fault: Callable[[], None]) -> None:
    """Let ``fault`` happen on the faulty rank, before it has the batch of its step."""
    from jobctl.trainer.training import loop

    whole = loop.micro_batches

    def batches(*arguments: object, **options: object) -> Iterator[torch.Tensor]:
        for step, batch in enumerate(whole(*arguments, **options)):  # type: ignore[arg-type]
            if step == STEP and os.environ.get("RANK", FAULTY_RANK) == FAULTY_RANK:
                fault()
            yield batch

    loop.micro_batches = batches  # type: ignore[assignment]


def hang() -> None:
    """Wait for ever in user code."""
    at_step(lambda: threading.Event().wait() and None)


def slow_storage() -> None:
    """Take longer to write a checkpoint than a step may take."""
    from jobctl.trainer.checkpoint import writer

    fsync = os.fsync

    class SlowSystem:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def fsync(self, descriptor: int) -> None:
            time.sleep(SLOW_SECONDS)
            fsync(descriptor)

    writer.os = SlowSystem()  # type: ignore[assignment]


FAULTS = {"hang": hang, "slow_storage": slow_storage}


def main() -> int:
    if "RANK" in os.environ or "ALONE" in os.environ:
        from jobctl.trainer.__main__ import die_with_parent
        from jobctl.trainer.__main__ import main as rank_main

        die_with_parent()
        FAULTS[os.environ["FAULT"]]()
        return rank_main(sys.argv[1:])

    from jobctl.trainer import launch

    launch.WORKER = "tests.trainer.faulty_rank"
    return launch.main(sys.argv[1:])


if __name__ == "__main__":
    os._exit(main())

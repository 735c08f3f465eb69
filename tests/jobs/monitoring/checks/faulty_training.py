"""The trainer's launcher and ranks with one fault, which the environment variable FAULT names: real runs for doctor."""

from __future__ import annotations

import errno
import importlib.abc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec

import torch

FAULTY_RANK = "1"
STEP = 3
"""The step, from 0 on, in which a fault shows that has a step."""
SLOW_SECONDS = 0.4


def before_batches(fault: Callable[[int], None], rank: str | None = FAULTY_RANK) -> None:
    """Do ``fault`` before each step's batch, on one rank or on all."""
    from jobctl.trainer.training import loop

    whole = loop.micro_batches

    def batches(*arguments: object, **options: object) -> Iterator[torch.Tensor]:
        for step, batch in enumerate(whole(*arguments, **options)):  # type: ignore[arg-type]
            if rank in (None, os.environ["RANK"]):
                fault(step)

            yield batch

    loop.micro_batches = batches  # type: ignore[assignment]


def signal_to_itself(number: int, rank: str | None = FAULTY_RANK) -> Callable[[], None]:
    def fault(step: int) -> None:
        if step == STEP:
            os.kill(os.getpid(), number)

    return lambda: before_batches(fault, rank)


def other_collective() -> None:
    """Reduce a tensor of another size, in the place of the step's own."""

    def fault(step: int) -> None:
        if step == STEP:
            torch.distributed.all_reduce(torch.zeros(7))

    before_batches(fault)


def slow_rank() -> None:
    """Work longer than the other rank in each step."""
    from jobctl.trainer.training import step

    run = step.Stepper.run

    def slow(self: object, batches: Iterator[torch.Tensor], rate: float, timer: object) -> object:
        def late() -> Iterator[torch.Tensor]:
            for batch in batches:
                if os.environ["RANK"] == FAULTY_RANK:
                    time.sleep(SLOW_SECONDS)

                yield batch

        return run(self, late(), rate, timer)  # type: ignore[arg-type]

    step.Stepper.run = slow  # type: ignore[assignment, method-assign]


def slow_data() -> None:
    """Wait for each batch, on all ranks."""
    before_batches(lambda step: time.sleep(0.05), None)


class Missing(importlib.abc.MetaPathFinder):
    """Finds no package called ``name``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named '{fullname}'")

        return None


def missing_package() -> None:
    """Have no xxhash, which checkpoints need."""
    sys.modules.pop("xxhash", None)
    sys.meta_path.insert(0, Missing("xxhash"))


def full_disk() -> None:
    """Let no checkpoint become durable."""
    from jobctl.trainer.checkpoint import writer

    class FullSystem:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def fsync(self, descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer.os = FullSystem()  # type: ignore[assignment]


def little_memory() -> None:
    """Have 1.5 GiB of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "stopped": signal_to_itself(signal.SIGSTOP),
    "killed": signal_to_itself(signal.SIGKILL, None),
    "crashed": signal_to_itself(signal.SIGSEGV, None),
    "other_collective": other_collective,
    "slow_rank": slow_rank,
    "slow_data": slow_data,
    "missing_package": missing_package,
    "full_disk": full_disk,
    "little_memory": little_memory,
}


def main() -> int:
    if "RANK" in os.environ:
        from jobctl.trainer.__main__ import die_with_parent
        from jobctl.trainer.__main__ import main as rank_main

        die_with_parent()
        FAULTS[os.environ["FAULT"]]()
        return rank_main(sys.argv[1:])

    from jobctl.trainer import launch

    launch.WORKER = "tests.jobs.monitoring.checks.faulty_training"
    return launch.main(sys.argv[1:])


if __name__ == "__main__":
    os._exit(main())

"""The trainer's launcher and ranks with one fault, which the environment variable FAULT names.

FAULTY_RANK says which rank has it; with APART no rank sees another one's process.

``bench.faults`` runs it on GPUs, and tests run it on CPUs.
"""

from __future__ import annotations

import errno
import importlib.abc
import itertools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import torch

FAULTY_RANK = os.environ.get("FAULTY_RANK", "1")
STEP = 3
"""The step, from 0 on, in which a fault shows that has a step."""
STAMP = "FAULT_STAMP"
"""Environment variable that names a file. The faulty rank touches it when the fault begins."""
SLOW_SECONDS = 0.4
SLOW_STORAGE_SECONDS = 7.0


def is_faulty() -> bool:
    """Return whether this process is the faulty rank; a process alone is."""
    return os.environ.get("RANK", FAULTY_RANK) == FAULTY_RANK


def stamp() -> None:
    """Take note of when the fault begins, once."""
    path = os.environ.get(STAMP)
    if path and not Path(path).exists():
        Path(path).touch()


def before_batches(fault: Callable[[int], None], everywhere: bool = False) -> None:
    """Do ``fault`` before each step's batch, on the faulty rank or on all."""
    from jobctl.trainer.training import loop

    whole = loop.micro_batches

    def batches(*arguments: object, **options: object) -> Iterator[torch.Tensor]:
        for step, batch in enumerate(whole(*arguments, **options)):  # type: ignore[arg-type]
            if everywhere or is_faulty():
                fault(step)

            yield batch

    loop.micro_batches = batches  # type: ignore[assignment]


def at_step(fault: Callable[[], None], everywhere: bool = False) -> Callable[[], None]:
    """Return what lets ``fault`` happen once, before the batch of one step."""

    def once(step: int) -> None:
        if step == STEP:
            stamp()
            fault()

    return lambda: before_batches(once, everywhere)


def wait_for_ever() -> None:
    threading.Event().wait()


def signal_to_itself(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def first_time(fault: Callable[[], None]) -> Callable[[], None]:
    """Return ``fault`` without its effect after a restart in place."""
    from jobctl.trainer.lifecycle.stop import DIED_AT

    return (lambda: None) if DIED_AT in os.environ else fault


def other_collective() -> None:
    """Reduce a tensor of another size, in the place of the step's own."""
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    torch.distributed.all_reduce(torch.zeros(7, device=device))


def skip_collective() -> None:
    """Take no part in the last reduction of one step's gradients."""
    from jobctl.trainer.training.reduction import OverlappedReduction

    finish = OverlappedReduction.finish
    steps = itertools.count()

    def finish_without(self: OverlappedReduction) -> None:
        if not is_faulty() or next(steps) != STEP:
            finish(self)
            return

        stamp()
        self.__dict__["_reduce"] = lambda gradient, own: None
        finish(self)
        del self.__dict__["_reduce"]

    OverlappedReduction.finish = finish_without  # type: ignore[method-assign]


def stuck_data() -> None:
    """Let the reading of one batch never end, in a worker process of the faulty rank."""
    from jobctl.trainer.data.samples import MicroBatches

    read = MicroBatches.__getitem__

    def read_until(self: MicroBatches, micro: int) -> torch.Tensor:
        if is_faulty() and micro >= STEP * self.layout.accumulation:
            stamp()
            wait_for_ever()

        return read(self, micro)

    MicroBatches.__getitem__ = read_until  # type: ignore[method-assign]


def no_gpu_memory() -> None:
    """Ask for more memory than the GPU has."""
    _, total = torch.cuda.mem_get_info()
    torch.empty(2 * total, dtype=torch.uint8, device="cuda")


def slow_rank() -> None:
    """Work longer than the other rank in each step."""
    from jobctl.trainer.training import step

    run = step.Stepper.run

    def slow(self: object, batches: Iterator[torch.Tensor], rate: float, timer: object) -> object:
        def late() -> Iterator[torch.Tensor]:
            for batch in batches:
                if is_faulty():
                    stamp()
                    time.sleep(SLOW_SECONDS)

                yield batch

        return run(self, late(), rate, timer)  # type: ignore[arg-type]

    step.Stepper.run = slow  # type: ignore[assignment, method-assign]


def slow_data() -> None:
    """Wait for each batch, on all ranks."""
    before_batches(lambda step: time.sleep(0.05), everywhere=True)


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


def storage(fsync: Callable[[int], None]) -> None:
    """Let checkpoints be made durable by ``fsync``."""
    from jobctl.trainer.checkpoint import writer

    class System:
        def __getattr__(self, name: str) -> object:
            return fsync if name == "fsync" else getattr(os, name)

    writer.os = System()  # type: ignore[assignment]


def full_disk() -> None:
    """Let no checkpoint become durable."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    storage(refuse)


def slow_storage() -> None:
    """Take longer to write a checkpoint than a step may take."""

    def wait(descriptor: int) -> None:
        time.sleep(SLOW_STORAGE_SECONDS)
        os.fsync(descriptor)

    storage(wait)


def little_memory() -> None:
    """Have 1.5 GiB of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))


def apart() -> None:
    """Let each rank count as one of a machine of its own: it cannot look up the others' processes."""
    from jobctl.trainer.lifecycle import investigation

    investigation.machine = lambda: os.environ["RANK"]


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "hang": at_step(wait_for_ever),
    "hang_once": at_step(first_time(wait_for_ever)),
    "stopped": at_step(signal_to_itself(signal.SIGSTOP)),
    "killed": at_step(signal_to_itself(signal.SIGKILL), everywhere=True),
    "killed_once": at_step(first_time(signal_to_itself(signal.SIGKILL))),
    "crashed": at_step(signal_to_itself(signal.SIGSEGV), everywhere=True),
    "other_collective": at_step(other_collective),
    "skipped_collective": skip_collective,
    "stuck_data": stuck_data,
    "no_gpu_memory": at_step(no_gpu_memory),
    "slow_rank": slow_rank,
    "slow_data": slow_data,
    "missing_package": missing_package,
    "full_disk": full_disk,
    "slow_storage": slow_storage,
    "little_memory": little_memory,
}


def main() -> int:
    """Be the launcher; or, where a launcher has started this process or ALONE is set, a rank with the fault."""
    if "RANK" in os.environ or "ALONE" in os.environ:
        from jobctl.trainer.__main__ import die_with_parent
        from jobctl.trainer.__main__ import main as rank_main

        die_with_parent()
        if "APART" in os.environ:
            apart()

        FAULTS[os.environ["FAULT"]]()
        return rank_main(sys.argv[1:])

    from jobctl.trainer import launch

    launch.WORKER = "bench.faulty_rank"
    return launch.main(sys.argv[1:])


if __name__ == "__main__":
    os._exit(main())

"""What habits of the step are worth: ``python -m bench.variants MODEL --data DIR -o FILE``.

One model in one process. In each round every variant takes a few steps, in random order, of as many tokens; what a
variant costs is the difference to the same round's steps as they are, so that a card that warms up is unfair to none.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.document import save
from bench.entrants import Ours
from bench.h200 import catalogue_batch
from bench.measured import batches, build
from jobctl.jobs.core.errors import run_command

AS_IT_IS = "as it is"


@contextlib.contextmanager
def host_waits(entrant: Ours, micro_steps: int) -> Iterator[None]:
    """Ask for the loss of every micro-step, as a loop that prints it does."""
    stepper = entrant.stepper(micro_steps)
    take = stepper.micro_step

    def micro_step(*arguments: Any) -> Tensor:
        loss = take(*arguments)
        loss.item()
        return loss

    stepper.micro_step = micro_step  # type: ignore[method-assign]
    try:
        yield
    finally:
        del stepper.micro_step  # type: ignore[attr-defined]


@contextlib.contextmanager
def collector_on() -> Iterator[None]:
    """Let Python collect garbage when it thinks fit."""
    gc.enable()
    try:
        yield
    finally:
        gc.disable()


def variants(
    entrant: Ours, data: Path, batch: int, micro_steps: int, block: int
) -> dict[str, Callable[[], Any]]:
    """What takes one step of ``batch`` x ``micro_steps`` sequences of ``block`` tokens."""
    whole = batches(data, batch, block)
    half = batches(data, batch // 2, block)

    def step(habit: contextlib.AbstractContextManager[None]) -> Tensor:
        with habit:
            return entrant.step(whole, micro_steps)

    return {
        AS_IT_IS: lambda: step(contextlib.nullcontext()),
        "the host waits in each micro-step": lambda: step(host_waits(entrant, micro_steps)),
        "Python's garbage collector on": lambda: step(collector_on()),
        "half the micro-batch, twice the micro-steps": lambda: entrant.step(half, 2 * micro_steps),
    }


def milliseconds(step: Callable[[], Any], steps: int, device: torch.device) -> float:
    """Of one step, in a row of ``steps`` that is waited for at its end only."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - began) / steps * 1e3


def compare(
    steps: dict[str, Callable[[], Any]], rounds: int, count: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds a step by variant and round."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # compiles and allocates
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in random.sample(list(steps), len(steps)):
                found[name].append(milliseconds(steps[name], count, device))
    finally:
        gc.enable()
    return found


def costs(found: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """By variant: what its step takes more than the same round's as it is; mean and standard error, milliseconds."""
    result = {}
    for name, times in found.items():
        if name != AS_IT_IS:
            more = [a - b for a, b in zip(times, found[AS_IT_IS], strict=True)]
            result[name] = statistics.mean(more), statistics.stdev(more) / len(more) ** 0.5
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps of a variant in a round")
    parser.add_argument("--accumulation", type=int, default=2)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no NVIDIA GPU is to be seen here")
    device = torch.device("cuda", 0)
    batch = catalogue_batch(options.model)[0]
    torch.cuda.set_device(device)
    entrant = build({"model": options.model, "entrant": "ours", "batch": batch}, device)
    data = options.data / f"sotu-{options.model.split('_')[0]}"
    steps = variants(entrant, data, batch, options.accumulation, 2048)
    found = compare(steps, options.rounds, options.steps, device)
    print(
        f"{options.model}, {batch} x {options.accumulation}: {statistics.median(found[AS_IT_IS]):.1f} ms a step"
    )
    for name, (mean, error) in costs(found).items():
        print(f"  {name}: {mean:+.1f} ± {error:.1f} ms")
    about = {"torch": torch.__version__, "device": torch.cuda.get_device_name()}
    save(options.output, **about, milliseconds=found)
    return 0


if __name__ == "__main__":
    run_command(main)

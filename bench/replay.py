"""What ``verify_replay`` costs and catches: ``python -m bench.replay -o FILE [--steps N] [--flips N] -- FLAGS``.

FLAGS are the trainer's. Trains in this process, in turns with and without a replay in each step, and times both: the
difference is what one replay costs. Then flips one random bit of one random gradient of the model and compares,
``--flips`` times. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.document import save, split_flags
from bench.training import prepare
from jobctl.jobs.core.errors import run_command
from jobctl.trainer.distributed import World
from jobctl.trainer.training.loop import Training
from jobctl.trainer.training.replay import INTEGERS
from jobctl.trainer.training.step import Stepper

WARM_STEPS = 3
"""Steps before the first that is timed: they compile."""
STEPS_A_TURN = 3
EVERY = 100
"""The interval for which the cost is stated."""


def main(arguments: Sequence[str]) -> int:
    """Time and flip, and report."""
    words, flags = split_flags(arguments)
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=12, help="timed steps with a replay, and as many without"
    )
    parser.add_argument("--flips", type=int, default=100, help="bits to flip, one after another")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(words)

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    world = World(rank=0, size=1, device=device)
    training = prepare([*flags, "--verify_replay=1", "--save_checkpoints=False"], world)
    batches = training.batches()
    step_ms = turns(training, batches, options.steps)
    results = cost(step_ms) | flips(training.run.stepper, next(batches), options.flips)

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    save(options.output, torch=torch.__version__, device=name, flags=flags, results=results)
    print(table(results))

    return 0


def turns(training: Training, batches: Iterator[torch.Tensor], steps: int) -> dict[bool, list[float]]:
    """Return the milliseconds of steps with a replay and without, taken in turns."""
    replay = training.run.stepper.replay
    step_ms: dict[bool, list[float]] = {False: [], True: []}
    for number in range(WARM_STEPS + 2 * steps):
        timed = number - WARM_STEPS
        with_replay = timed >= 0 and timed // STEPS_A_TURN % 2 == 1
        replay.every = int(with_replay)

        begun = time.perf_counter()
        training.take_step(batches)
        synchronize(training.world.device)
        if timed >= 0:
            step_ms[with_replay].append((time.perf_counter() - begun) * 1000)

    # Raises where a replay gave other bits: then the run does not repeat, and its figures mean nothing.
    replay.check(training.run.stepper.gradients.names, training.world)

    return step_ms


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cost(step_ms: dict[bool, list[float]]) -> dict[str, Any]:
    """Return medians in milliseconds, and the share of time that a replay in ``EVERY`` steps takes."""
    without = statistics.median(step_ms[False])
    replayed = statistics.median(step_ms[True])

    return {
        "step_ms": round(without, 2),
        "step_with_replay_ms": round(replayed, 2),
        "replay_ms": round(replayed - without, 2),
        f"cost_of_one_in_{EVERY}": round((replayed - without) / without / EVERY, 6),
        "replays_that_differed": 0,
    }


def flips(stepper: Stepper, tokens: torch.Tensor, times: int) -> dict[str, int]:
    """Return how many of ``times`` flipped bits the comparison of one micro-batch has caught."""
    chance = random.Random(0)
    plain_bits = stepper.bits
    first = stepper.trial(tokens)

    def flipped_bits(loss: torch.Tensor) -> torch.Tensor:
        flip_bit(chance.choice(stepper.gradients.local_gradients()), chance)
        return plain_bits(loss)

    stepper.bits = flipped_bits  # type: ignore[method-assign]
    try:
        caught = sum(bool((stepper.trial(tokens) != first).any()) for _ in range(times))
    finally:
        stepper.bits = plain_bits  # type: ignore[method-assign]

    unharmed = bool((stepper.trial(tokens) == first).all())
    return {"flips": times, "caught": caught, "false_alarms": int(not unharmed)}


def flip_bit(gradient: torch.Tensor, chance: random.Random) -> None:
    """Flip one random bit of a tensor, in place."""
    integers = INTEGERS[gradient.element_size()]
    words = gradient.view(integers).view(-1)
    bit = chance.randrange(torch.iinfo(integers).bits)
    # The highest bit is the sign: as an integer it is the least number of the type.
    value = torch.iinfo(integers).min if bit == torch.iinfo(integers).bits - 1 else 1 << bit
    words[chance.randrange(words.numel())] ^= value


def table(results: dict[str, Any]) -> str:
    """Return the results for people."""
    return "\n".join(f"{name:24} {value}" for name, value in results.items())


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))

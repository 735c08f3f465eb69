"""One attempt: what surrounds the loop on a rank, from signals to the watchdog."""

from __future__ import annotations

import contextlib
import sys

from jobctl.trainer.distributed import World
from jobctl.trainer.lifecycle.heartbeat import Heartbeat
from jobctl.trainer.lifecycle.stop import StopRequest
from jobctl.trainer.lifecycle.watchdog import Watchdog
from jobctl.trainer.options import Options
from jobctl.trainer.reporting.ranklog import Console
from jobctl.trainer.training.assembly import assemble, together
from jobctl.trainer.training.loop import Training

DEFAULT_HANG_TIMEOUT = 1800
HANG_MARGIN = 120
"""Seconds that collectives wait longer than the watchdog, which knows better what to say."""


def hang_timeout(options: Options) -> int:
    return int(options.flags.get("hang_timeout", DEFAULT_HANG_TIMEOUT))


def train(options: Options, world: World, attempt: int, console: Console) -> int:
    """Train or evaluate; returns the exit code. Raises UserError on every rank where the job cannot be right."""
    stop = StopRequest(options.run_dir, world)
    if options.only_evaluates:
        return attempted(options, world, stop, console)

    stop.watch_signals()

    with contextlib.ExitStack() as stack:
        if world.is_main:
            heartbeat = Heartbeat(options.run_dir, attempt, console.line)
            together(world, lambda: stack.enter_context(heartbeat))
            # Only now: no other attempt is alive, so a launcher's request can only be an old one.
            stop.forget_earlier_launch()
        else:
            together(world, lambda: None)

        return attempted(options, world, stop, console)


def attempted(options: Options, world: World, stop: StopRequest, console: Console) -> int:
    """From building the model to the exit code."""
    with Watchdog(hang_timeout(options), sys.stderr) as watchdog:
        run = assemble(options, world)
        watchdog.timeout_seconds = run.recipe.train.hang_timeout
        training = Training(run, console, stop, watchdog)
        if run.recipe.train.eval_only:
            return training.evaluate_only()

        return training.train_to_the_end()

"""One attempt: what surrounds the loop on a rank, from signals to the watchdog."""

from __future__ import annotations

import sys

from trainer.assembly import assemble
from trainer.loop import Training
from trainer.options import Options
from trainer.parallel import World
from trainer.ranklog import Console
from trainer.stop import StopRequest
from trainer.watchdog import Watchdog

DEFAULT_HANG_TIMEOUT = 1800
HANG_MARGIN = 120
"""Seconds that collectives wait longer than the watchdog, which knows better what to say."""


def hang_timeout(options: Options) -> int:
    return int(options.flags.get("hang_timeout", DEFAULT_HANG_TIMEOUT))


def train(options: Options, world: World, console: Console) -> int:
    """Train or evaluate; returns the exit code. Raises UserError on every rank where the job cannot be right."""
    stop = StopRequest(options.run_dir, world)
    stop.watch_signals()
    with Watchdog(hang_timeout(options), sys.stderr) as watchdog:
        run = assemble(options, world)
        watchdog.timeout_seconds = run.recipe.train.hang_timeout
        training = Training(run, console, stop, watchdog)
        if run.recipe.train.eval_only:
            return training.evaluate_only()
        return training.train_to_the_end()

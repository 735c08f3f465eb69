"""One attempt: the parts around the loop on a rank, from signals to the watchdog."""

from __future__ import annotations

import contextlib
import sys

from jobctl.trainer.distributed import World
from jobctl.trainer.lifecycle.heartbeat import Heartbeat
from jobctl.trainer.lifecycle.investigation import Investigation
from jobctl.trainer.lifecycle.restarts import error_heals
from jobctl.trainer.lifecycle.stop import StopRequest
from jobctl.trainer.lifecycle.watchdog import STORAGE_TIMEOUTS, Watchdog
from jobctl.trainer.options import Options
from jobctl.trainer.reporting.ledger import Ledger
from jobctl.trainer.reporting.ranklog import Console
from jobctl.trainer.training.assembly import assemble, together
from jobctl.trainer.training.loop import Training

DEFAULT_HANG_TIMEOUT = 1800
COLLECTIVES_SECONDS = 86_400
"""Least time that a collective waits. The watchdog ends a hang long before, with a better message."""
HANG_MARGIN = 120
"""Seconds that collectives wait longer than the watchdog does at most."""


def hang_timeout(options: Options) -> int:
    return int(options.flags.get("hang_timeout", DEFAULT_HANG_TIMEOUT))


def collectives_timeout(options: Options) -> int:
    """Return how many seconds a collective may take before torch ends it.

    Ranks wait in one while another waits for storage, which the watchdog allows.
    """
    return max(COLLECTIVES_SECONDS, hang_timeout(options) * STORAGE_TIMEOUTS + HANG_MARGIN)


def train(options: Options, world: World, attempt: int, console: Console) -> int:
    """Train or evaluate. Return the exit code. Raises UserError on every rank if the job cannot be right."""
    stop = StopRequest(options.run_dir, world)
    if options.only_evaluates:
        return attempted(options, world, stop, attempt, console)

    # Before the model is built: a signal at the start must not kill the rank without a word.
    stop.watch_signals()

    with contextlib.ExitStack() as stack:
        if world.is_main:
            heartbeat = Heartbeat(options.run_dir, attempt, console.line)
            together(world, lambda: stack.enter_context(heartbeat))
            # Only now: no other attempt is alive, so a launcher's request can only be an old one.
            stop.forget_earlier_launch()
        else:
            # Rank 0 may raise above, and the others must hear of it in the same exchange.
            together(world, lambda: None)

        return attempted(options, world, stop, attempt, console)


def attempted(options: Options, world: World, stop: StopRequest, attempt: int, console: Console) -> int:
    """From building the model to the exit code."""
    look = Investigation(world, options.records, attempt, console.line, sys.stderr)
    watchdog = Watchdog(hang_timeout(options), sys.stderr, look, look.exchange.is_called, look.lost)
    look.doing = lambda: watchdog.doing

    with watchdog, contextlib.ExitStack() as starting:
        # Until the first step ends: compilation may take longer than a hang is allowed to.
        starting.enter_context(watchdog.starting())
        try:
            ledger = Ledger()
            run = assemble(options, world, watchdog.beat, ledger)
            # A resumed run takes the timeout of its recipe, which only assembling has read.
            watchdog.timeout_seconds = run.recipe.train.hang_timeout
            training = Training(run, console, stop, watchdog, attempt=attempt, ledger=ledger)
            training.on_first_step = starting.close
            training.on_step = look.notes.at

            return training.evaluate_only() if run.recipe.train.eval_only else training.train_to_the_end()
        except Exception as error:
            # The launcher reads this note, and starts the ranks again if the error may pass.
            look.notes.failed(error_heals(error))
            raise

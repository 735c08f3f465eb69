"""Announce the choices of a run: in the ranks' logs, on the console, in the run log and to the trackers."""

from __future__ import annotations

import logging
import os

import msgspec

from jobctl.jobs.catalog.training_plan import doubts, plan_of
from jobctl.trainer import distributed as parallel
from jobctl.trainer.lifecycle.stop import DIED_AT, LAUNCHED_AT, STARTED_AT
from jobctl.trainer.reporting import startup
from jobctl.trainer.reporting.runlog import RunLog
from jobctl.trainer.reporting.trackers import Trackers
from jobctl.trainer.training.assembly import Run

log = logging.getLogger(__name__)


def announce(run: Run, run_log: RunLog | None, trackers: Trackers | None) -> None:
    """Describe the run before its first step. Only rank 0 has a run log and trackers."""
    train = run.recipe.train
    parameters = parallel.named_parameters(run.stepper.model)
    state = run.stepper.optimizer.state()
    plan = plan_of(train, run.layout.global_batch_size, startup.source_shares(run.data))
    info = startup.facts(
        run.recipe,
        run.world,
        run.sharding,
        run.layout,
        attention=run.attention,
        kernels=run.kernels,
        plan=plan,
        peak=run.peak,
        fingerprint=run.data.fingerprint,
        without_graphs=run.stepper.without_graphs,
        weight_bytes=parallel.bytes_of(iter(parameters.values())),
        optimizer_bytes=parallel.bytes_of(iter(state.values())),
        resumed=run.resumed.step if run.resumed else None,
        origin=str(run.origin or ""),
        saves="" if train.eval_only or run.is_trial else run.checkpoints.staging().describe(),
    )

    text = startup.block(info, train, run.peak, [chosen.name for chosen in run.validation])
    log.info("%s", text)
    if run.world.is_main and not train.eval_only:
        for doubt in doubts(plan, train):
            log.warning("%s", doubt)

    if run_log and trackers:
        config = msgspec.to_builtins(run.recipe.model) | msgspec.to_builtins(train)
        name = run.checkpoints.run.resolve().name
        run_log.write([{"kind": "start", "run_name": name, "config": config, "startup_info": info}])
        trackers.begin(name, config, run.resumed.step if run.resumed else None)


def open_log(run: Run, attempt: int) -> RunLog:
    """Return the run log. A training continues it from the checkpoint; an evaluation has its own."""
    if run.recipe.train.eval_only:
        return RunLog(run.directory, None, "eval")

    began = {"attempt": attempt, "launched": float(os.environ.get(LAUNCHED_AT, STARTED_AT))}
    if DIED_AT in os.environ:
        began["died"] = float(os.environ[DIED_AT])

    return RunLog(run.directory, run.resumed.step if run.resumed else None, began=began)

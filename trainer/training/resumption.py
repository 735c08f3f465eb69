"""Compare the settings of a checkpoint with those of the attempt that resumes from it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from jobctl.jobs.catalog.resuming import Change, Settings, changes
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint.state import State
from jobctl.trainer.training.initial import is_source

log = logging.getLogger(__name__)


def settings_of(state: State) -> Settings:
    """Return the settings that a checkpoint was made with."""
    batch = state.global_batch_size

    # Older checkpoints do not say the batch; a run that never changed it has taken whole steps of it.
    if not batch and state.step and state.samples % state.step == 0:
        batch = state.samples // state.step

    return Settings(state.model, state.train, batch, state.fingerprint)


def check_changes(
    state: State, now: Settings, directory: Path, allowed: Collection[str], only_evaluates: bool
) -> None:
    """Say each setting that differs from the checkpoint's, and refuse those that change the training.

    ``allowed`` are the settings that may change all the same. An evaluation trains nothing, so that it asks
    for the same architecture only. Raises UserError with one line a refused change.
    """
    differing = changes(settings_of(state), now)
    if only_evaluates:
        differing = [change for change in differing if not change.settings]

    refused = [change for change in differing if not change.is_allowed(allowed)]
    if refused:
        raise refusal(state, refused, directory)

    for change in differing:
        log.info("step %d continues with another %s", state.step, change)


def check_origin(state: State, init_from: str, directory: Path) -> None:
    """Raise UserError if a run should begin from weights, but has begun from others."""
    began = state.origin.source if state.origin else "random weights"
    if is_source(init_from) and init_from != began:
        raise UserError(
            f"--init_from={init_from}, but the run in {directory} began with {began} and is at step {state.step}",
            hint="choose another --run_dir, or resume the run without --init_from",
        )


def refusal(state: State, refused: list[Change], directory: Path) -> UserError:
    """Return the error that names each refused change, and the way to make it all the same."""
    lines = "\n  ".join(str(change) for change in refused)
    never = [change for change in refused if not change.settings]
    hint = (
        "--allow_changes continues with the new values (jobctl resume RUN --set KEY=VALUE records them); "
        "otherwise give the options that the run began with"
    )

    if never:
        hint = "give the options that the run began with, or choose another --run_dir"

    return UserError(
        f"the run in {directory} was trained with other settings up to step {state.step}:\n  {lines}",
        hint=hint,
    )

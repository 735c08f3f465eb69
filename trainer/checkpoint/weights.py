"""The weights of a run for programs that do not train it: export, sampling, tests."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import legacy, publication
from jobctl.trainer.checkpoint.contents import Contents, read_contents
from jobctl.trainer.checkpoint.integrity import Damaged, read_small
from jobctl.trainer.checkpoint.reader import read_tensors_into
from jobctl.trainer.checkpoint.state import STATE_FILE, State, decode_state
from jobctl.trainer.checkpoint.table import DTYPES

log = logging.getLogger(__name__)


def load_model_weights(run: Path) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    """The architecture and the whole weights, by name, of a run's newest undamaged checkpoint.

    Raises UserError where there is none.
    """
    steps = publication.candidates(run)
    for step in steps:
        path = publication.folder(run, step)
        try:
            contents = read_contents(path)
            return contents.state.model, read_tensors(contents, "model.")
        except Damaged as damage:
            log.warning("checkpoint %s is damaged, trying the one before: %s", path, damage)

    if steps:
        raise UserError(f"every checkpoint of {run} is damaged", hint="train it anew; the warnings say why")

    raise UserError(f"run {run} has no checkpoint", hint="train it first, or check the path")


def read_tensors(contents: Contents, prefix: str = "") -> dict[str, torch.Tensor]:
    """The whole tensors whose names begin with ``prefix``, by the rest of their names. Raises Damaged."""
    table = contents.table
    wanted = {
        name: torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        for name, entry in table.tensors.items()
        if name.startswith(prefix)
    }

    # Older files have checksums of their own, which the tensor reader does not know.
    problems = legacy.damage(contents.folder, contents.checksums.old_files)
    problems = problems or read_tensors_into(contents.folder, table, wanted)
    if problems:
        raise Damaged(problems)

    return {name.removeprefix(prefix): tensor for name, tensor in wanted.items()}


def recorded_state(run: Path) -> State | None:
    """The state in the run's newest readable checkpoint; None where there is none. Checksums are not looked at."""
    for step in publication.candidates(run):
        path = publication.folder(run, step)
        try:
            return decode_state(read_small(path / STATE_FILE), path)
        except Damaged:  # loading will say so
            continue

    return None

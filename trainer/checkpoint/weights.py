"""Load the weights of a run in programs that do not train it: export, sampling, another run, tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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

NEWEST = ""
BEST = "best"
"""Names of a checkpoint instead of a step: the newest whole one, and the one with the best validation."""


def folders(run: Path, which: str = NEWEST) -> list[Path]:
    """Return the folders of the checkpoint ``which``, in the order in which to try them.

    ``which`` is NEWEST, BEST, or the number of a step. Raises UserError if there is none.
    """
    kept = ", ".join(map(str, publication.steps(run))) or "no checkpoint"
    if which == NEWEST:
        newest = [publication.folder(run, step) for step in publication.candidates(run)]
        if newest:
            return newest

        raise UserError(f"run {run} has no checkpoint", hint="train it first, or check the path")

    if which == BEST:
        best = publication.pointed_folder(run, publication.BEST)
        if best is not None:
            return [best]

        raise UserError(f"run {run} has no best validation", hint=f"it keeps {kept}; was it ever validated?")

    chosen = publication.folder(run, int(which)) if which.isdecimal() else None
    if chosen is None or not chosen.is_dir():
        raise UserError(f"run {run} has no checkpoint '{which}'", hint=f"it keeps {kept}; or say best")

    return [chosen]


def whole_contents(run: Path, which: str = NEWEST) -> Iterator[Contents]:
    """Yield the checkpoints ``which`` whose small files are whole. Warn of each damaged one."""
    for path in folders(run, which):
        try:
            yield read_contents(path)
        except Damaged as damage:
            log.warning("checkpoint %s is damaged, trying the one before: %s", path, damage)


def load_model_weights(run: Path, which: str = NEWEST) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    """Return the architecture and the whole weights, by name, of a checkpoint. The default is the newest whole one.

    Raises UserError if there is none.
    """
    for contents in whole_contents(run, which):
        try:
            return contents.state.model, read_tensors(contents, "model.")
        except Damaged as damage:
            log.warning("checkpoint %s is damaged, trying the one before: %s", contents.folder, damage)

    each = "every checkpoint" if which == NEWEST else f"checkpoint '{which}'"
    raise UserError(f"{each} of {run} is damaged", hint="train it again; the warnings give the reasons")


def read_tensors(contents: Contents, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the whole tensors whose names begin with ``prefix``, by the rest of their names.

    Raises Damaged.
    """
    wanted = {
        name: torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        for name, entry in contents.table.tensors.items()
        if name.startswith(prefix)
    }

    fill_tensors(contents, wanted)

    return {name.removeprefix(prefix): tensor for name, tensor in wanted.items()}


def fill_tensors(contents: Contents, wanted: dict[str, torch.Tensor]) -> None:
    """Fill whole tensors. The table must have them with the same shapes. Raises Damaged."""
    # Older files have other checksums, which the tensor reader does not know.
    problems = legacy.damage(contents.folder, contents.checksums.old_files)
    problems = problems or read_tensors_into(contents.folder, contents.table, wanted)
    if problems:
        raise Damaged(problems)


def recorded_state(run: Path) -> State | None:
    """Return the state in the run's newest readable checkpoint, or None. Checksums are not compared."""
    for step in publication.candidates(run):
        path = publication.folder(run, step)
        try:
            return decode_state(read_small(path / STATE_FILE), path)
        except Damaged:
            # The load itself will warn of it.
            continue

    return None

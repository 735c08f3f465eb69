"""Fill live tensors from the newest whole checkpoint. All ranks use the same one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.contents import Contents, read_contents_together
from jobctl.trainer.checkpoint.integrity import Damaged
from jobctl.trainer.checkpoint.reader import read_tensors_into
from jobctl.trainer.checkpoint.state import State
from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)

OPTIONAL = "guard."
"""Prefix of tensors that older checkpoints do not have. Without a stored value they stay as they are."""


def resume(
    run: Path,
    world: World,
    tensors: Mapping[str, torch.Tensor],
    check: Callable[[State], None],
    set_aside: bool = True,
    beat: Callable[[], None] = lambda: None,
) -> State | None:
    """Fill ``tensors`` from the newest undamaged checkpoint, whatever layout wrote it, and return its state.

    ``check`` raises UserError if the checkpoint belongs to another run. A damaged checkpoint is skipped with
    a warning; with ``set_aside`` it also loses its name. Return None if there is no whole one. ``beat`` is
    called for each piece that was read. Every rank returns and raises the same.
    """
    live = {name: tensor.detach() for name, tensor in tensors.items()}
    fresh = {name: tensor.clone() for name, tensor in live.items() if name.startswith(OPTIONAL)}

    # Rank 0's list: a network file system may show other ranks an older folder for a while.
    for step in world.from_main(publication.candidates(run)):
        try:
            contents = read_contents_together(world, publication.folder(run, step))
            # Before the tensors: the settings of another run explain a wrong shape better than the shape
            # does.
            check(contents.state)
            load(world, contents, live, fresh, beat)

            return contents.state
        except Damaged as damage:
            if world.is_main:
                # Rank 0 alone renames; the others wait below until the folder has its new name.
                pass_over(run, step, damage, set_aside)

            world.barrier()

    return None


def load(
    world: World,
    contents: Contents,
    live: dict[str, torch.Tensor],
    fresh: dict[str, torch.Tensor],
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Fill the tensors. Raises Damaged on every rank if one of them has read a wrong byte."""
    # Before the first tensor is filled, so that a run with other shapes leaves the weights as they are.
    check_names_and_shapes(contents, live)
    # A damaged checkpoint may have been loaded before, and have left its values.
    for name, value in fresh.items():
        live[name].copy_(value)

    stored = {name: tensor for name, tensor in live.items() if name in contents.table.tensors}
    # All ranks hear of a wrong byte that one has read, and try the checkpoint before it together.
    problems = world.gathered(read_tensors_into(contents.folder, contents.table, stored, beat))
    if any(problems):
        raise Damaged(sorted({line for lines in problems for line in lines}))


def check_names_and_shapes(contents: Contents, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise UserError if the checkpoint does not have the tensors of the run."""
    stored = contents.table.tensors
    missing = [name for name in tensors if name not in stored and not name.startswith(OPTIONAL)]
    if missing:
        raise UserError(
            f"checkpoint {contents.folder} has no {missing[0]} (and {len(missing) - 1} more are missing)"
        )

    for name, tensor in tensors.items():
        if name in stored and stored[name].shape != tuple(tensor.shape):
            raise UserError(
                f"checkpoint {contents.folder}: {name} has shape {list(stored[name].shape)}, "
                f"this run's has {list(tensor.shape)}"
            )


def pass_over(run: Path, step: int, damage: Damaged, set_aside: bool) -> None:
    """Warn that a checkpoint is damaged. With ``set_aside`` rename it."""
    path = publication.folder(run, step)
    aside = f"; it is now {publication.set_aside(run, step).name}" if set_aside else ""
    log.warning("CHECKPOINT %s IS DAMAGED, trying the one before%s: %s", path, aside, damage)

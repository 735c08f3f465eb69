"""The names of checkpoints in a run's folder: publication, pointers, retention, and what a kill left behind."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from jobctl.jobs.core.durable import sync_folder, write_whole
from jobctl.jobs.core.layout import checkpoints_dir
from jobctl.trainer.checkpoint.integrity import Damaged, read_small

STEP = re.compile(r"step-(\d+)")
WEIGHTS = re.compile(r"weights-(\d+)")
"""Weights alone, which BEST may name; never resumed from."""
LATEST = "LATEST"
BEST = "BEST"
DAMAGED = "damaged-"
LEFTOVERS = re.compile(rf"\.(writing|removing)-.*|\.({LATEST}|{BEST})\..*\.partial")
"""What a killed attempt was writing or removing."""


def folder(run: Path, step: int) -> Path:
    return checkpoints_dir(run) / f"step-{step}"


def weights_folder(run: Path, step: int) -> Path:
    """The weights of a step that was the best so far and at which no checkpoint was due."""
    return checkpoints_dir(run) / f"weights-{step}"


def temporary_folder(final: Path) -> Path:
    """Where a checkpoint is written before it has its name."""
    return final.with_name(f".writing-{final.name}")


def steps(run: Path) -> list[int]:
    """Steps of all named checkpoints, ascending."""
    if not checkpoints_dir(run).is_dir():
        return []
    matches = (STEP.fullmatch(path.name) for path in checkpoints_dir(run).iterdir())
    return sorted(int(match[1]) for match in matches if match)


def pointed(run: Path, pointer: str) -> int | None:
    """The step of the checkpoint that LATEST or BEST names; None where it names none that exists."""
    target = pointed_folder(run, pointer)
    match = STEP.fullmatch(target.name) if target else None
    return int(match[1]) if match else None


def pointed_folder(run: Path, pointer: str) -> Path | None:
    """The folder that LATEST or BEST names, a checkpoint's or one of weights alone; None where it does not exist."""
    try:
        name = read_small(checkpoints_dir(run) / pointer).decode("utf-8", "replace").strip()
    except Damaged:
        return None

    if not STEP.fullmatch(name) and not WEIGHTS.fullmatch(name):
        return None

    target = checkpoints_dir(run) / name

    return target if target.is_dir() else None


def candidates(run: Path) -> list[int]:
    """Steps in the order in which to try them: LATEST's, then the ones before it, newest first."""
    latest = pointed(run, LATEST)
    return [step for step in reversed(steps(run)) if latest is None or step <= latest]


def publish(final: Path, *, latest: bool, best: bool) -> None:
    """Give the written, durable checkpoint its name, and only then name it in LATEST and BEST."""
    temporary = temporary_folder(final)

    # The order is the guarantee: a name appears only when all behind it is on the disk.
    sync_folder(temporary)
    if final.exists():  # of an attempt that was rolled back
        discard(final)

    os.rename(temporary, final)
    sync_folder(final.parent)

    # A kill here leaves LATEST at the checkpoint before, which is whole and still exists.
    if latest:
        write_whole(final.parent / LATEST, f"{final.name}\n".encode())

    if best:
        write_whole(final.parent / BEST, f"{final.name}\n".encode())


def discard(path: Path) -> None:
    """Take the name away first, so that a kill in between leaves nothing that looks like a checkpoint."""
    nameless = path.with_name(f".removing-{path.name.lstrip('.')}")
    shutil.rmtree(nameless, ignore_errors=True)
    if path.exists():
        os.rename(path, nameless)

    shutil.rmtree(nameless, ignore_errors=True)


def set_aside(run: Path, step: int) -> Path:
    """Rename a damaged checkpoint, so that it is neither resumed from nor counted, but can still be looked at."""
    aside = checkpoints_dir(run) / f"{DAMAGED}step-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder(run, step), aside)
    return aside


def damaged(run: Path) -> list[Path]:
    """The checkpoints that were set aside."""
    return sorted(checkpoints_dir(run).glob(f"{DAMAGED}*"))


def prune(run: Path, keep_last: int, keep_every: int) -> list[int]:
    """Remove what retention does not hold and return its steps.

    Kept are the last ones, every ``keep_every``-th step, LATEST and BEST; of weights alone only BEST's.
    """
    present = steps(run)
    kept = {*present[-keep_last:], pointed(run, LATEST), pointed(run, BEST)}
    kept |= {step for step in present if keep_every and step % keep_every == 0}
    removed = [step for step in present if step not in kept]

    for step in removed:
        discard(folder(run, step))

    best = pointed_folder(run, BEST)

    for path in list(checkpoints_dir(run).iterdir()):
        if WEIGHTS.fullmatch(path.name) and path != best:
            discard(path)

    return removed


def clear_leftovers(run: Path) -> None:
    """Remove what a killed attempt was writing or removing."""
    directory = checkpoints_dir(run)
    directory.mkdir(parents=True, exist_ok=True)

    for path in directory.iterdir():
        if not LEFTOVERS.fullmatch(path.name):
            continue

        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

"""The names of checkpoints in a run's folder: publication, pointers, retention, and the leftovers of a kill."""

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
"""A folder with only the weights. BEST may name it, but no run resumes from it."""
LATEST = "LATEST"
BEST = "BEST"
DAMAGED = "damaged-"
LEFTOVERS = re.compile(rf"\.(writing|removing)-.*|\.({LATEST}|{BEST})\..*\.partial")
"""Names of files and folders that a killed attempt was writing or removing."""


def folder(run: Path, step: int) -> Path:
    return checkpoints_dir(run) / f"step-{step}"


def weights_folder(run: Path, step: int) -> Path:
    """Return the folder for the weights of the best step so far, if no checkpoint is due at that step."""
    return checkpoints_dir(run) / f"weights-{step}"


def temporary_folder(final: Path) -> Path:
    """Return the folder in which a checkpoint is written before it gets its name."""
    return final.with_name(f".writing-{final.name}")


def steps(run: Path) -> list[int]:
    """Return the steps of all named checkpoints, ascending."""
    if not checkpoints_dir(run).is_dir():
        return []
    # The whole name must match: unfinished and damaged folders have other names, and do not count.
    matches = (STEP.fullmatch(path.name) for path in checkpoints_dir(run).iterdir())
    return sorted(int(match[1]) for match in matches if match)


def pointed(run: Path, pointer: str) -> int | None:
    """Return the step of the checkpoint that LATEST or BEST names, or None if no such checkpoint exists."""
    target = pointed_folder(run, pointer)
    match = STEP.fullmatch(target.name) if target else None
    return int(match[1]) if match else None


def pointed_folder(run: Path, pointer: str) -> Path | None:
    """Return the folder that LATEST or BEST names, or None if it does not exist. It may hold only weights."""
    try:
        name = read_small(checkpoints_dir(run) / pointer).decode("utf-8", "replace").strip()
    except Damaged:
        return None

    # The name comes from a file that anybody may have edited, and must not lead elsewhere.
    if not STEP.fullmatch(name) and not WEIGHTS.fullmatch(name):
        return None

    target = checkpoints_dir(run) / name

    return target if target.is_dir() else None


def candidates(run: Path) -> list[int]:
    """Return the steps in the order in which to try them: that of LATEST, then earlier ones, newest first.

    A checkpoint after LATEST is never tried: a kill ended its publication, or its attempt was rolled back.
    """
    latest = pointed(run, LATEST)
    return [step for step in reversed(steps(run)) if latest is None or step <= latest]


def publish(final: Path, *, latest: bool, best: bool) -> None:
    """Give the written, durable checkpoint its name, and only then name it in LATEST and BEST."""
    temporary = temporary_folder(final)

    # The order is the guarantee: a name appears only when all of its content is on the disk.
    sync_folder(temporary)

    # An earlier attempt that was rolled back may have made the same step.
    if final.exists():
        discard(final)

    os.rename(temporary, final)
    sync_folder(final.parent)

    # A kill here leaves LATEST at the checkpoint before, which is whole and still exists.
    if latest:
        write_whole(final.parent / LATEST, f"{final.name}\n".encode())

    if best:
        write_whole(final.parent / BEST, f"{final.name}\n".encode())


def discard(path: Path) -> None:
    """Remove a folder.

    Take its name away first, so that a kill leaves nothing that looks like a checkpoint.
    """
    # A kill during an earlier removal may have left a folder of this name, which would block the rename.
    nameless = path.with_name(f".removing-{path.name.lstrip('.')}")
    shutil.rmtree(nameless, ignore_errors=True)
    if path.exists():
        os.rename(path, nameless)

    shutil.rmtree(nameless, ignore_errors=True)


def set_aside(run: Path, step: int) -> Path:
    """Rename a damaged checkpoint.

    It is no longer resumed from or counted, but a person can still examine it.
    """
    # One that was set aside at the same step before gives way, or the rename would fail.
    aside = checkpoints_dir(run) / f"{DAMAGED}step-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder(run, step), aside)
    return aside


def damaged(run: Path) -> list[Path]:
    """Return the checkpoints that were set aside."""
    return sorted(checkpoints_dir(run).glob(f"{DAMAGED}*"))


def prune(run: Path, keep_last: int, keep_every: int) -> list[int]:
    """Remove checkpoints that retention does not keep, and return their steps.

    Kept are the last ones, every ``keep_every``-th step, LATEST and BEST. Of folders with only weights, only
    that of BEST is kept.
    """
    present = steps(run)
    # BEST and LATEST stay whatever their age: other commands read the checkpoints by these names.
    kept = {*present[-keep_last:], pointed(run, LATEST), pointed(run, BEST)}
    kept |= {step for step in present if keep_every and step % keep_every == 0}
    removed = [step for step in present if step not in kept]

    for step in removed:
        discard(folder(run, step))

    best = pointed_folder(run, BEST)

    # A list, because the loop renames in the folder that it reads.
    for path in list(checkpoints_dir(run).iterdir()):
        if WEIGHTS.fullmatch(path.name) and path != best:
            discard(path)

    return removed


def clear_leftovers(run: Path) -> None:
    """Remove the unfinished files and folders of a killed attempt."""
    directory = checkpoints_dir(run)
    directory.mkdir(parents=True, exist_ok=True)

    for path in directory.iterdir():
        if not LEFTOVERS.fullmatch(path.name):
            continue

        # A link is removed, and what it points to stays.
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

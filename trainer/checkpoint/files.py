"""Checkpoints as files: their names, checksums, publication and retention. Nothing here knows what is in them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import msgspec

from jobctl.jobs.core.durable import sync_folder, write_whole
from jobctl.jobs.core.layout import checkpoints_dir
from jobctl.jobs.core.names import UnsafeName, inside

STEP = re.compile(r"step-(\d+)")
CHECKSUMS = "checksums.json"
LATEST, BEST = "LATEST", "BEST"
DAMAGED = "damaged-"
CHUNK = 1 << 22


class FileRecord(msgspec.Struct, frozen=True):
    """What a file must be to be whole."""

    size: int
    sha256: str


def folder(run: Path, step: int) -> Path:
    return checkpoints_dir(run) / f"step-{step}"


def temporary_folder(run: Path, step: int) -> Path:
    """Where a checkpoint is written before it has its name."""
    return checkpoints_dir(run) / f".writing-step-{step}"


def steps(run: Path) -> list[int]:
    """Steps of all named checkpoints, ascending."""
    if not checkpoints_dir(run).is_dir():
        return []
    found = (STEP.fullmatch(path.name) for path in checkpoints_dir(run).iterdir())
    return sorted(int(match[1]) for match in found if match)


def pointed(run: Path, pointer: str) -> int | None:
    """Step that LATEST or BEST names; None where it names none that exists."""
    try:
        text = (checkpoints_dir(run) / pointer).read_text()
    except OSError:
        return None
    match = STEP.fullmatch(text.strip())
    return int(match[1]) if match and folder(run, int(match[1])).is_dir() else None


def candidates(run: Path) -> list[int]:
    """Steps in the order in which to try them: LATEST's, then the ones before it, newest first."""
    latest = pointed(run, LATEST)
    return [step for step in reversed(steps(run)) if latest is None or step <= latest]


def record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file, made durable as well."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(file.fileno())
    return FileRecord(size, digest.hexdigest())


def records(path: Path, names: list[str]) -> dict[str, FileRecord]:
    return {name: record(path / name) for name in names}


def damage(path: Path, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with the checkpoint in ``path``: one line a file, none where it is whole.

    ``parts`` processes can share the reading: each checks every ``parts``-th file from ``part`` on.
    """
    try:
        expected = msgspec.json.decode((path / CHECKSUMS).read_bytes(), type=dict[str, FileRecord])
    except (OSError, msgspec.DecodeError) as error:
        return [f"{CHECKSUMS}: {error}"]
    return [
        problem
        for name in sorted(expected)[part::parts]
        if (problem := file_damage(path, name, expected[name]))
    ]


def file_damage(folder: Path, name: str, expected: FileRecord) -> str:
    try:
        path = inside(folder, name)
    except UnsafeName as error:
        return error.message
    try:
        size = path.stat().st_size
        if size != expected.size:
            return f"{path.name}: {size} bytes instead of {expected.size}"
        return "" if record(path) == expected else f"{path.name}: its checksum does not match"
    except OSError as error:
        return f"{path.name}: {error.strerror}"


def publish(run: Path, step: int, checksums: dict[str, FileRecord], best: bool) -> None:
    """Give the written checkpoint its name, and only then name it in LATEST (and BEST)."""
    temporary, final = temporary_folder(run, step), folder(run, step)
    write_whole(temporary / CHECKSUMS, msgspec.json.encode(checksums))
    sync_folder(temporary)
    if final.exists():  # of an attempt that was rolled back
        discard(final)
    os.rename(temporary, final)
    sync_folder(final.parent)
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
    """Rename a damaged checkpoint, so that it is neither resumed from nor counted, but still there to look at."""
    aside = checkpoints_dir(run) / f"{DAMAGED}step-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder(run, step), aside)
    return aside


def damaged(run: Path) -> list[Path]:
    """Those that were set aside."""
    return sorted(checkpoints_dir(run).glob(f"{DAMAGED}*"))


def prune(run: Path, keep_last: int, keep_every: int) -> list[int]:
    """Remove what retention does not hold, and say which: kept are the last ones, every n-th, LATEST and BEST."""
    there = steps(run)
    kept = {*there[-keep_last:], pointed(run, LATEST), pointed(run, BEST)}
    kept |= {step for step in there if keep_every and step % keep_every == 0}
    removed = [step for step in there if step not in kept]
    for step in removed:
        discard(folder(run, step))
    return removed


def clear_leftovers(run: Path) -> None:
    """Remove what a killed attempt was writing or removing."""
    directory = checkpoints_dir(run)
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.name.startswith((".writing-", ".removing-")):
            shutil.rmtree(path, ignore_errors=True)

"""The records in a run directory, read as what someone else may have written: each is checked or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.spec.resolution import TARGETS

_NUMBERED = re.compile(r"[0-9]{1,9}\.json")


class BadRun(UserError):
    """A run directory that cannot be read: it is private, broken, or no run at all."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", code=1)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One scheduler job working on a run, as it wrote of itself."""

    attempt: int
    job_id: str
    target: str
    host: str
    nodes: str
    pid: int
    start: str
    end: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    step: str = "train"
    """What it did: ``train``, or ``eval`` and the like, which read a run's checkpoint."""
    task: int = 0
    tasks: int = 1
    """Where a job is an array, each of its ``tasks`` makes attempts of its own."""


class _Site(msgspec.Struct):
    root: str


class _Inputs(msgspec.Struct):
    dataset: str
    tokenizer: str


class _Resources(msgspec.Struct):
    nodes: int


class _Spec(msgspec.Struct):
    """What every version of jobctl has written of a run, and every reader may ask for."""

    target: str
    kind: str
    after: list[str]
    site: _Site
    inputs: _Inputs
    resources: _Resources
    stage: str | None = None


class _Record(msgspec.Struct):
    spec: _Spec
    spec_hash: str
    submitted: str | None = None


def read_record(file: Path) -> dict[str, Any]:
    """Return a run's record. Raises BadRun where it is absent, private, or not one."""
    try:
        data = read_regular(file)
    except FileNotFoundError:
        raise BadRun(file.parent, f"has no {file.name}; its submission did not finish") from None
    except OSError as error:
        raise BadRun(file, error.strerror or str(error)) from None
    return parse_record(data, file)


def parse_record(data: bytes | str, origin: Path) -> dict[str, Any]:
    """Return the record that ``data`` is. Raises BadRun, which names ``origin``, where it is none."""
    try:
        record: dict[str, Any] = msgspec.json.decode(data)
        checked = msgspec.convert(record, _Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRun(origin, f"not a run's record: {error}") from None
    if checked.spec.target not in TARGETS:
        raise BadRun(origin, f"not a run's record: this jobctl has no target {checked.spec.target[:40]!r}")
    return record


def read_attempts(run: Path) -> tuple[Attempt, ...]:
    """Return all attempts in a run directory, by their numbers. Raises BadRun."""
    try:
        files = [path for path in (run / "attempts").iterdir() if _NUMBERED.fullmatch(path.name)]
    except FileNotFoundError:  # it has not begun
        return ()
    except OSError as error:
        raise BadRun(run / "attempts", error.strerror or str(error)) from None
    return tuple(sorted(map(_read_attempt, files), key=lambda attempt: attempt.attempt))


def _read_attempt(file: Path) -> Attempt:
    try:
        return msgspec.json.decode(read_regular(file), type=Attempt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRun(file, f"not an attempt's record: {error}") from None
    except OSError as error:
        raise BadRun(file, error.strerror or str(error)) from None

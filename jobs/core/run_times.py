"""Read the times of a run from its record, its attempts and its log. This never asks a scheduler."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.goodput import Goodput, Interval, Span, Start, account
from jobctl.jobs.core.log_files import has_training, log_names
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LOG, decode_json, open_within, read_regular
from jobctl.jobs.core.stamps import seconds_of

ATTEMPT_NAME = re.compile(r"[0-9]{1,9}\.json")
TRAINING = "train"
# The trainer writes the kind first, so the beginning of a line tells its kind.
BEGAN = b'{"kind":"began"'
STEP = b'{"kind":"iteration"'
TIME = b'{"kind":"time"'
RESUMED = b'{"kind":"resumed"'
SUMMARY = b'{"kind":"summary"'
T = TypeVar("T")


class _Record(msgspec.Struct):
    submitted: str = ""


class _Attempt(msgspec.Struct):
    attempt: int
    start: str
    end: str | None = None
    step: str = TRAINING


class _Hang(msgspec.Struct):
    last_progress: float


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """The ``began`` record at the top of a log file. It says which start wrote the file."""

    attempt: int
    launched: float
    died: float | None = None


class _Resumed(msgspec.Struct):
    iter: int


def read_goodput(run: Path, now: float | None = None) -> Goodput | None:
    """Return the account of the time of ``run``.

    Return None if no attempt has begun. Return None also for a log of an old version, which has steps but no
    times: all its time would count as start-up.

    A damaged record is left out. Its time is then in ``other`` or in a gap. A report must not fail because of
    one bad file.
    """
    starts = read_starts(run)
    if not starts and _has_steps(run):
        return None

    return account(read_submitted(run), read_spans(run), starts, now)


def read_submitted(run: Path) -> float | None:
    """Return the time of the submission in seconds since 1970, or None if it is not recorded."""
    record = _decode_file(layout.record_file(run), _Record)
    return seconds_of(record.submitted) if record else None


def read_spans(run: Path) -> list[Span]:
    """Return the attempts of the training, sorted by number. Attempts of other steps are left out."""
    spans = []
    for path in _files(run / "attempts", ATTEMPT_NAME):
        attempt = _decode_file(path, _Attempt)
        if attempt is None or attempt.step != TRAINING:
            continue

        start = seconds_of(attempt.start)
        if start is None:
            continue

        hang = _decode_file(layout.hang_file(run, attempt.attempt), _Hang)
        spans.append(
            Span(
                number=attempt.attempt,
                start=start,
                end=seconds_of(attempt.end or ""),
                hung_since=hang.last_progress if hang else None,
            )
        )

    return sorted(spans, key=lambda span: span.number)


def read_starts(run: Path) -> list[Start]:
    """Return the starts of the trainer that wrote a log file, oldest first."""
    starts = []
    for name in log_names(run):
        try:
            with open_within(layout.metrics_dir(run) / name, MOST_BYTES_OF_A_LOG) as file:
                start = start_of(file)
        except OSError:
            continue

        if start:
            starts.append(start)

    return starts


def _has_steps(run: Path) -> bool:
    """Return whether a log of ``run`` has a step. A run without a log may have its steps in a document."""
    names = log_names(run)
    for name in names:
        try:
            with open_within(layout.metrics_dir(run) / name, MOST_BYTES_OF_A_LOG) as file:
                if any(line.startswith(STEP) for line in file):
                    return True
        except OSError:
            continue

    return not names and has_training(run)


def start_of(lines: Iterable[bytes]) -> Start | None:
    """Return the start that wrote a log file. Return None for a log of an old version, which has no times."""
    began: Began | None = None
    resumed = 0
    ended = False
    intervals = []

    for line in lines:
        # A log has a line for each step. Decode only the few lines that are needed.
        if line.startswith(TIME):
            interval = _decode(line, Interval)
            if interval:
                intervals.append(interval)
        elif line.startswith(BEGAN):
            began = _decode(line, Began)
        elif line.startswith(RESUMED):
            record = _decode(line, _Resumed)
            resumed = record.iter if record else 0
        elif line.startswith(SUMMARY):
            # A start writes its summary only if it ends by itself.
            ended = True

    if began is None:
        return None

    return Start(
        attempt=began.attempt,
        launched=began.launched,
        died=began.died,
        resumed=resumed,
        ended=ended,
        intervals=tuple(intervals),
    )


def _files(folder: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
    except OSError:
        return []


def _decode_file(path: Path, kind: type[T]) -> T | None:
    try:
        return _decode(read_regular(path), kind)
    except OSError:
        return None


def _decode(data: bytes, kind: type[T]) -> T | None:
    try:
        return decode_json(data, kind)
    except msgspec.MsgspecError:
        return None

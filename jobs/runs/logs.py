"""Read the log files of a run directory, across attempts and also while they grow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import open_regular
from jobctl.jobs.runs.store import numbers_of_others

POLL_SECONDS = 0.5
PORTION_BYTES = 16 << 20
"""Bytes of a log that are in memory at once."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_RANK_LOG = re.compile(r"rank-[0-9]{1,9}\.log")


def log_files(run: Path, rank: int | None, attempt: int | None, step: str = "") -> list[Path]:
    """Return the existing log files of ``rank``, oldest attempt first.

    If ``rank`` is None, return those of the batch script. Without a number of an attempt, return those of all
    attempts at ``step``.
    """
    wanted = _numbers(run, step) if attempt is None else [attempt]
    # Sort numbers and not names: attempt 10 comes after attempt 9.
    paths = [layout.batch_log(run, n) if rank is None else layout.rank_log(run, n, rank) for n in wanted]
    return [path for path in paths if path.exists()]


def _numbers(run: Path, step: str) -> list[int]:
    others = numbers_of_others(run, step)
    numbers = (int(path.name) for path in (run / "logs").glob("[0-9]*") if _NUMBER.fullmatch(path.name))
    return sorted(number for number in numbers if number not in others)


def read_logs(
    run: Path,
    *,
    rank: int | None,
    attempt: int | None,
    follow: bool,
    ended: Callable[[], bool],
    step: str = "",
) -> Iterator[str]:
    """Yield the lines of the logs.

    With ``follow``, also yield later lines, over all attempts, until ``ended``.

    Raises UserError if no log exists and none is still to come.
    """
    seen = False
    for _, line in _lines(lambda: log_files(run, rank, attempt, step), ended if follow else lambda: True):
        seen = True
        if line is not None:
            yield line

    if not seen:
        raise UserError(f"no log of {_what(rank, attempt)} in {run / 'logs'}", hint=_hint(run), code=1)


def read_all_ranks(
    run: Path, *, attempt: int | None, follow: bool, ended: Callable[[], bool], step: str = ""
) -> Iterator[str]:
    """Yield the lines of every rank's log as they come, each with its rank in front."""

    def files() -> list[Path]:
        # Look them up in each round, because a new attempt makes new files.
        numbers = _numbers(run, step) if attempt is None else [attempt]
        return [path for n in numbers for path in _rank_logs(layout.log_dir(run, n))]

    for path, line in _lines(files, ended if follow else lambda: True):
        if line is not None:
            yield f"[rank {int(path.stem.removeprefix('rank-'))}] {line}"


def _rank_logs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("rank-*.log") if _RANK_LOG.fullmatch(path.name))


def _lines(files: Callable[[], list[Path]], ended: Callable[[], bool]) -> Iterator[tuple[Path, str | None]]:
    """Yield the lines of ``files`` until ``ended``, and None once for each existing file."""
    offsets: dict[Path, int] = {}
    while True:
        # Ask before the files are read, so that no last line is missed.
        finished = ended()
        for path in files():
            if path not in offsets:
                offsets[path] = 0
                yield path, None

            for line in new_lines(path, offsets, rest=finished):
                yield path, line

        if finished:
            return

        time.sleep(POLL_SECONDS)


def new_lines(path: Path, offsets: dict[Path, int], rest: bool) -> Iterator[str]:
    """Yield the lines after the offset of ``path``, and move the offset behind them.

    Yield a last line without a line break only with ``rest``, because it may be incomplete.
    """
    with open_regular(path) as file:
        file.seek(offsets.get(path, 0))
        # In portions: the log of another user may be larger than the memory.
        while data := file.read(PORTION_BYTES):
            end = data.rfind(b"\n") + 1
            is_last = len(data) < PORTION_BYTES
            # A line that is longer than a portion is cut.
            if (is_last and rest) or not (is_last or end):
                end = len(data)

            if not end:
                return

            offsets[path] = offsets.get(path, 0) + end
            file.seek(offsets[path])
            yield from data[:end].decode("utf-8", "replace").splitlines()


def _what(rank: int | None, attempt: int | None) -> str:
    author = "the batch script" if rank is None else f"rank {rank}"
    return author if attempt is None else f"{author} in attempt {attempt}"


def _hint(run: Path) -> str:
    logs = sorted(str(p.relative_to(run / "logs")) for p in (run / "logs").glob("*/*.log"))
    return f"existing logs: {', '.join(logs[:20])}" if logs else "the job has not started yet"

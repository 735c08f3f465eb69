"""Reading the log files of a run directory, also while they grow and across attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs.catalog import layout
from jobs.catalog.errors import UserError

POLL_SECONDS = 0.5


def log_files(run: Path, rank: int | None, attempt: int | None) -> list[Path]:
    """Existing log files, oldest attempt first: of ``rank``, or of the batch script where it is None."""
    numbers = sorted(int(p.name) for p in (run / "logs").glob("[0-9]*") if p.name.isdigit())
    wanted = [n for n in numbers if attempt in (None, n)]
    paths = [layout.batch_log(run, n) if rank is None else layout.rank_log(run, n, rank) for n in wanted]
    return [path for path in paths if path.exists()]


def read_logs(
    run: Path, *, rank: int | None, attempt: int | None, follow: bool, ended: Callable[[], bool]
) -> Iterator[str]:
    """Lines of the logs; with ``follow`` also those still to come, over all attempts, until ``ended``.

    Raises UserError when there is nothing to read and nothing to wait for.
    """
    offsets: dict[Path, int] = {}
    while True:
        finished = ended() if follow else True  # asked before reading, so that the last lines are not missed
        for path in log_files(run, rank, attempt):
            text, offsets[path] = whole_lines(path, offsets.get(path, 0), rest=finished)
            yield from text
        if finished:
            break
        time.sleep(POLL_SECONDS)
    if not offsets:
        raise UserError(f"no log of {_what(rank, attempt)} in {run / 'logs'}", hint=_hint(run), code=1)


def whole_lines(path: Path, offset: int, rest: bool) -> tuple[list[str], int]:
    """Lines after byte ``offset`` and the offset behind them; a last line without an end only with ``rest``."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = len(data) if rest else data.rfind(b"\n") + 1
    return data[:end].decode("utf-8", "replace").splitlines(), offset + end


def _what(rank: int | None, attempt: int | None) -> str:
    who = "the batch script" if rank is None else f"rank {rank}"
    return who if attempt is None else f"{who} in attempt {attempt}"


def _hint(run: Path) -> str:
    there = sorted(str(p.relative_to(run / "logs")) for p in (run / "logs").glob("*/*.log"))
    return f"there are: {', '.join(there[:20])}" if there else "the job has not started yet"

"""Say after the end that training hung, where the ranks did not say it themselves."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core.layout import hang_file, log_dir
from jobctl.trainer.reporting.ranklog import next_attempt

WATCHDOG_SAYS = b"every thread's stack:"


def attempt_of(run_dir: Path, attempt: int | None) -> int:
    """Return the attempt that has the ranks' logs: the one that was named, else the latest."""
    return next_attempt(run_dir) - 1 if attempt is None else attempt


def hang_report(run_dir: Path, attempt: int | None) -> str:
    """Return a message about stacks that the watchdog wrote into ranks' logs; empty if it wrote none."""
    number = attempt_of(run_dir, attempt)
    if hang_file(run_dir, number).exists():  # a rank has said more than is known here
        return ""

    folder = log_dir(run_dir, number)
    told = {path.stem: WATCHDOG_SAYS in tail(path) for path in sorted(folder.glob("rank-*.log"))}
    if not any(told.values()):
        return ""

    silent = ", ".join(rank for rank, has_told in told.items() if not has_told)

    return (
        f"error: training hung, no step within --hang_timeout; the place of each rank is in {folder}/rank-*.log"
        + (f" (not in that of {silent})\n" if silent else "\n")
    )


def tail(path: Path, size: int = 1 << 18) -> bytes:
    """The last bytes of a file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read()

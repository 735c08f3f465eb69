"""Send all output of a rank to its file, and the news of rank 0 also to the console."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import log_dir, rank_log

if TYPE_CHECKING:
    from jobctl.trainer.distributed import World


class Console(logging.Handler):
    """The standard output that the process was started with; a progress line is overwritten on a terminal."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.stream: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, errors="replace")
        self.in_place = self.stream.isatty()
        self._unfinished = False

    def progress(self, text: str) -> None:
        """Show how far training is."""
        self._put(f"\r{text}\033[K" if self.in_place else f"{text}\n")
        self._unfinished = self.in_place

    def line(self, text: str) -> None:
        self._put(("\n" if self._unfinished else "") + text + "\n")
        self._unfinished = False

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        self.line(prefix + record.getMessage())

    def _put(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:  # a console that went away (a closed pipe, a lost session) must not end the training
            pass


def next_attempt(run: Path) -> int:
    """First number after those that have a log folder."""
    folder = log_dir(run, 0).parent
    taken = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return max(taken, default=0) + 1


def begin(run: Path, attempt: int | None, world: World) -> tuple[int, Console]:
    """Return this rank's part in an attempt. Without a number it is the next attempt.

    Raises UserError where it cannot write.
    """
    try:
        if attempt is None:
            # Asked once: as soon as one rank has made its folder, another would count on.
            attempt = world.from_main(next_attempt(run) if world.is_main else None)

        return attempt, redirect(run, attempt, world.rank)
    except OSError as error:
        raise UserError(f"rank {world.rank} cannot write into --run_dir: {error}", code=1) from None


def redirect(run: Path, attempt: int, rank: int) -> Console:
    """Send this process's output, that of C libraries too, to the rank's log; returns the console."""
    # The console comes first: it copies the descriptor that is redirected below.
    console = Console()
    path = rank_log(run, attempt, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is still buffered was meant for the console, not for the log.
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    to_file = logging.StreamHandler(sys.stderr)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.raiseExceptions = False  # a full disk under a log is not worth a traceback a line
    # force: a library may have set up logging before.
    logging.basicConfig(
        level=logging.INFO, handlers=[to_file, console] if rank == 0 else [to_file], force=True
    )
    logging.captureWarnings(True)

    return console

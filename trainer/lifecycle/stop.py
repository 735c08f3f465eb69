"""Decide whether training ends after this step: by the stop file, or by SIGTERM to any rank."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from jobctl.jobs.core.layout import stop_file

if TYPE_CHECKING:  # a launcher needs the words only, and no torch
    from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)
LAUNCHER_WORDS = "launcher received "
"""The beginning of each line that a launcher writes into the stop file."""
LAUNCHED_AT = "JOBCTL_LAUNCHED_AT"
"""Environment variable in which a launcher tells its ranks when it began, in seconds since 1970."""
DIED_AT = "JOBCTL_DIED_AT"
"""Environment variable in which a launcher that starts its ranks again tells when the ones before died."""
STARTED_AT = time.time()
"""Approximate start of this process. A training without a launcher starts then."""


class StopRequest:
    """Asked once a step, by every rank; all get the same answer after the same step."""

    def __init__(self, run_dir: Path, world: World) -> None:
        self.path = stop_file(run_dir)
        self.world = world
        self.reason = ""
        self._signal = ""

    def watch_signals(self) -> None:
        """From now on SIGTERM and SIGINT ask for an end; a second SIGINT ends at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def forget_earlier_launch(self) -> None:
        """Remove a stop file that an earlier launcher has left.

        A launcher removes its own request when its ranks have ended. One that was killed cannot,
        and its request would end every later start after one step. Call this on rank 0, when no
        other attempt is alive. A request of a person, a script or this launch stays.
        """
        launched_at = float(os.environ.get(LAUNCHED_AT, STARTED_AT))
        try:
            lines = self.path.read_text(errors="replace").splitlines()
            if self.path.stat().st_mtime >= launched_at:
                return

            if lines and all(line.startswith(LAUNCHER_WORDS) for line in lines):
                self.path.unlink()
                log.info("removed %s, which a launcher that was killed had left", self.path)
        except OSError:  # there is none, or it is not ours to remove
            return

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # The first one is only noted: the step under way ends, and all ranks stop after the same one.
        if number == signal.SIGINT and self._signal:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number).name

    def is_asked(self) -> bool:
        """Return whether any rank was asked to stop. The answer is the same on every rank."""
        if self._signal:
            self.reason = f"received {self._signal}"
        # One rank asks the file system for all of them, once a step.
        elif self.world.is_main:
            self.reason = self._read_file()

        return self.world.any(bool(self.reason))

    def _read_file(self) -> str:
        """Return the reason in the stop file. Open it: a stat may come from the file system's cache."""
        try:
            text = "; ".join(self.path.read_text(errors="replace").split("\n")).strip("; ")
        except FileNotFoundError:
            return ""
        except OSError:  # a file system that is away for a moment is no reason to stop
            return ""

        return f"{self.path}: {text}" if text else f"{self.path} exists"

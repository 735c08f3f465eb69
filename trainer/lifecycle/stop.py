"""Whether training should end after this step: the stop file, or SIGTERM to any rank."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from jobctl.jobs.core.layout import stop_file
from jobctl.trainer.distributed import World


class StopRequest:
    """Asked once a step, by every rank; all get the same answer after the same step."""

    def __init__(self, run_dir: Path, world: World) -> None:
        self.path, self.world = stop_file(run_dir), world
        self.reason = ""
        self._signal = ""

    def watch_signals(self) -> None:
        """From now on SIGTERM and SIGINT ask for an end; a second SIGINT ends at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number).name

    def is_asked(self) -> bool:
        """Whether any rank was asked to stop; the same on every rank."""
        if self._signal:
            self.reason = f"received {self._signal}"
        elif self.world.is_main:
            self.reason = self._read_file()
        return self.world.any(bool(self.reason))

    def _read_file(self) -> str:
        """Why the stop file says to stop; opened, for a stat may come from a network file system's cache."""
        try:
            text = self.path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""
        except OSError:  # a file system that is away for a moment is no reason to stop
            return ""
        return f"{self.path}: {text}" if text else f"{self.path} exists"

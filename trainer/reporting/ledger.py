"""Add up the time of this start of the trainer by the causes of ``jobs.core.goodput``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from jobctl.jobs.core.goodput import CAUSES, STEPS
from jobctl.trainer.reporting.runlog import Record


class Ledger:
    """Adds up seconds since the last interval. Time without a cause belongs to the steps.

    An interval in which no step was taken gives its rest to ``other``.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._since = clock()
        self._seconds: dict[str, float] = {}
        self._is_starting = True

    @contextlib.contextmanager
    def spending(self, cause: str) -> Iterator[None]:
        """Attribute the time in the block."""
        begun = self.clock()
        try:
            yield
        finally:
            self.add(cause, self.clock() - begun)

    def add(self, cause: str, seconds: float) -> None:
        """Attribute seconds of the interval that is open."""
        # The wall clock may be set back meanwhile.
        self._seconds[cause] = self._seconds.get(cause, 0.0) + max(0.0, seconds)

    def started(self) -> None:
        """Attribute what nothing else has taken so far to the start-up, once: the first step is done."""
        if self._is_starting:
            self._is_starting = False
            self.add("startup", self.clock() - self._since - sum(self._seconds.values()))

    def close_interval(self, step: int, tokens: int, in_steps: Mapping[str, float], steps: int) -> Record:
        """Return the record of the interval that ends now, and open the next one.

        ``in_steps`` are seconds that the ``steps`` of this interval waited for something.
        """
        now = self.clock()
        length = now - self._since
        for cause, seconds in in_steps.items():
            self.add(cause, seconds)

        # What no cause has taken belongs to the steps.
        told = sum(self._seconds.values())
        if told > length:  # a part that a GPU and the host both measured
            self._seconds = {cause: seconds * length / told for cause, seconds in self._seconds.items()}
        else:
            self.add(STEPS if steps else "other", length - told)

        spent = {cause: round(self._seconds[cause], 4) for cause in CAUSES if self._seconds.get(cause)}
        self._since = now
        self._seconds = {}

        return {"kind": "time", "iter": step, "at": round(now, 3), "seconds": spent, "tokens": tokens}

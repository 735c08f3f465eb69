"""The time of each part of a run, as far as its log gives it. Pure."""

from __future__ import annotations

from bisect import bisect_left

from jobctl.jobs.monitoring.history import History


class Clock:
    """Hours since the run's first start, by step.

    Between two intervals the time is interpolated. The time of an attempt begins with the stamp of its log,
    so the gap between attempts is in it.
    """

    def __init__(self, history: History) -> None:
        self.steps: list[int] = [0]
        self.hours: list[float] = [0.0]
        began = next((s.began for s in history.segments if s.began is not None), None)
        starts = _starts(history, began)
        now = 0.0
        # If a log gives the end of each interval, no durations need to be added.
        told = {moment.iter: moment.at - began for moment in history.moments} if began is not None else {}

        for interval in history.intervals:
            before = interval.iter - interval.steps
            # Several attempts may begin before this interval, if some of them logged none.
            while starts and before >= starts[0][0]:
                # Clocks of two nodes may differ, but time must not run backwards.
                now = max(now, starts.pop(0)[1])

            now = max(now, told.get(interval.iter, now + interval.seconds))
            self.steps.append(interval.iter)
            self.hours.append(now / 3600)

    def at(self, step: float) -> float:
        """Return the hours from the run's first start to the end of ``step``."""
        place = bisect_left(self.steps, step)
        if place == 0:
            return self.hours[0]

        if place == len(self.steps):
            return self.hours[-1]

        first = self.steps[place - 1]
        last = self.steps[place]
        part = (step - first) / (last - first) if last > first else 1.0
        return self.hours[place - 1] + part * (self.hours[place] - self.hours[place - 1])


def _starts(history: History, began: float | None) -> list[tuple[int, float]]:
    """Return the first step of each attempt that resumed, and its start in seconds after the run's."""
    if began is None:
        return []

    return [(s.resumed_from or 0, s.began - began) for s in history.segments if s.began is not None]

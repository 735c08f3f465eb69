"""Attribute the wall time of a run to its causes. Goodput is the share of the time in steps that count.

The facts come from three places. The run's record says when the run was submitted. The records of attempts
say when each attempt began and ended. The run log says how each start of the trainer used its seconds.
``run_times`` reads them; this module only calculates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from jobctl.jobs.core.amounts import duration

STEPS = "steps"
CAUSES = {
    STEPS: "steps that count",
    "queue": "in the queue",
    "startup": "container, imports, compilation, first step",
    "loading": "loading the checkpoint",
    "data": "waiting for data",
    "communication": "communication not hidden by computation",
    "checkpoint": "checkpoint pauses",
    "evaluation": "evaluation",
    "repeated": "repeated steps",
    "hang": "hang until detected",
    "restart": "restart in place",
    "requeue": "waiting for a requeue",
    "other": "other: log, shutdown, unknown",
}
"""Every cause with its description, in the order of display."""
OF_STEPS = (STEPS, "data", "communication")
"""Causes that belong to the steps. When a later start repeats the steps, this time is lost too."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A ``time`` record of the log: the work of a start since its last interval, or since its begin."""

    iter: int
    """The last step of the interval."""
    at: float
    """The time at which the interval ended, in seconds since 1970."""
    seconds: dict[str, float]
    """Seconds by cause. Their sum is the length of the interval."""
    tokens: int = 0
    """Tokens of the run up to that step."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the trainer, which is one log file. An attempt that restarts in place has several."""

    attempt: int
    launched: float
    """The time at which the launcher began, or began again after a death, in seconds since 1970."""
    resumed: int = 0
    """The step of the checkpoint from which it resumed; 0 without one."""
    died: float | None = None
    """The time at which the start before it died, if this start is a restart in place."""
    ended: bool = False
    """True if it ended by itself: it finished or was stopped."""
    intervals: tuple[Interval, ...] = ()


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, as the scheduler's job records it. Times are in seconds since 1970."""

    number: int
    start: float
    end: float | None = None
    hung_since: float | None = None
    """The last sign of progress, if the attempt was ended because it hung."""


class Goodput(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a run by cause. They add up to ``wall_seconds``."""

    wall_seconds: float
    seconds: dict[str, float]
    """Seconds by cause, with the keys of ``CAUSES``. A cause that took no time is left out."""
    tokens: int
    """Tokens of the steps that count."""
    attempts: int
    starts: int

    @property
    def share(self) -> float:
        """Return the share of the wall time in steps that count, 0 to 1."""
        return self.seconds.get(STEPS, 0.0) / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Return the rate of the run, not of a step: the tokens that count, over the whole wall time."""
        return self.tokens / self.wall_seconds if self.wall_seconds else 0.0

    def shares(self) -> dict[str, float]:
        """Return the share of the wall time by cause, 0 to 1, in the order of ``CAUSES``."""
        return {c: self.seconds[c] / self.wall_seconds for c in CAUSES if c in self.seconds}

    def lines(self) -> list[str]:
        """Return one line with the goodput and one line for each cause, the largest first."""
        first = (
            f"goodput {self.share:.1%} of {duration(self.wall_seconds)}; "
            f"{self.tokens_per_second:,.0f} tokens/s over the whole time"
        )
        losses = sorted(((s, c) for c, s in self.seconds.items() if c != STEPS), reverse=True)
        return [
            first,
            *(f"  {s / self.wall_seconds:6.1%}  {duration(s):>11}  {CAUSES[c]}" for s, c in losses),
        ]


def account(
    submitted: float | None, spans: Sequence[Span], starts: Sequence[Start], now: float | None = None
) -> Goodput | None:
    """Attribute every second from the submission to the end of the last attempt.

    ``submitted`` is None for a run that nobody submitted: its time begins with its first attempt. The time of
    a running attempt ends with its last interval, or at ``now`` while it has none. Starts are in the order of
    their log files. Returns None if nothing has begun.
    """
    spans = sorted(spans or spans_of(starts), key=lambda span: span.number)
    if not spans:
        return None

    # Clocks of two machines differ: an attempt can seem to begin before its submission.
    begin = spans[0].start if submitted is None else min(submitted, spans[0].start)
    books = _Books(begin, kept_steps(starts))

    for position, span in enumerate(spans):
        # The time before an attempt is its wait in the queue.
        books.until(span.start, "requeue" if position else "queue")
        attempt_starts = [start for start in starts if start.attempt == span.number]
        for start in attempt_starts:
            books.enter(start, first=start is attempt_starts[0])

        # Only the last attempt can still be at work. An earlier one without an end was lost.
        is_last = position == len(spans) - 1
        books.leave(span, attempt_starts, now if is_last else None)

    return Goodput(
        wall_seconds=sum(books.seconds.values()),
        seconds={cause: seconds for cause, seconds in books.seconds.items() if seconds > 0},
        tokens=books.tokens,
        attempts=len(spans),
        starts=len(starts),
    )


def spans_of(starts: Sequence[Start]) -> list[Span]:
    """Return the attempts of a run that no script started. The starts tell the begin and the end of each."""
    numbers = sorted({start.attempt for start in starts})
    spans = []

    for number in numbers:
        attempt_starts = [start for start in starts if start.attempt == number]
        ends = [interval.at for start in attempt_starts for interval in start.intervals]
        spans.append(Span(number=number, start=attempt_starts[0].launched, end=max(ends, default=None)))

    return spans


def kept_steps(starts: Sequence[Start]) -> dict[int, float]:
    """Return the last step that counts for each start, by the start's position.

    The steps after it do not count, because a later start did them again.
    """
    kept: dict[int, float] = {}
    bound = float("inf")

    # From the last start to the first: every later start can take steps away from the ones before it.
    for place in reversed(range(len(starts))):
        kept[place] = bound
        bound = min(bound, starts[place].resumed)

    return kept


class _Books:
    """The account of a run.

    Time is attributed from front to back. All time before ``cursor`` has its cause.
    """

    def __init__(self, begin: float, kept: Mapping[int, float]) -> None:
        self.cursor = begin
        self.kept = kept
        self.entered = 0
        self.tokens = 0
        self.seconds = dict.fromkeys(CAUSES, 0.0)

    def until(self, time: float, cause: str) -> None:
        """Attribute the time up to ``time`` to ``cause``. Do nothing if that time has its cause already."""
        if time > self.cursor:
            self.seconds[cause] += time - self.cursor
            self.cursor = time

    def enter(self, start: Start, first: bool) -> None:
        """Add the intervals of a start.

        The time before them is its start-up, or the death of the start before.
        """
        if not first:
            # The previous start's work after its last interval is lost, and so it is done again.
            self.until(start.launched if start.died is None else start.died, "repeated")
            self.until(start.launched, "restart")

        # The start-up after a death in place is part of the cost of that death.
        starting = "startup" if first or start.died is None else "restart"
        kept = self.kept[self.entered]
        self.entered += 1
        before = start.resumed

        for number, interval in enumerate(start.intervals):
            # The time between two intervals has no cause of its own.
            self.until(interval.at - sum(interval.seconds.values()), "other" if number else starting)
            self._take(interval, lost_share(before, interval.iter, kept), starting)
            before = interval.iter
            # Steps that a later start repeats add no tokens.
            if interval.iter <= kept:
                self.tokens = interval.tokens

    def _take(self, interval: Interval, lost: float, starting: str) -> None:
        """Add an interval. The share ``lost`` of its steps is done again later.

        ``starting`` is the cause for the start-up part of the interval.
        """
        told = sum(interval.seconds.values())
        length = max(0.0, interval.at - self.cursor)

        # Clocks of two nodes may differ: no second is counted twice.
        scale = min(1.0, length / told) if told else 0.0

        for cause, seconds in interval.seconds.items():
            known = cause if cause in CAUSES else "other"
            known = starting if known == "startup" else known
            again = lost if cause in OF_STEPS else 0.0
            self.seconds[known] += seconds * scale * (1 - again)
            self.seconds["repeated"] += seconds * scale * again

        self.cursor += told * scale

    def leave(self, span: Span, starts: Sequence[Start], now: float | None) -> None:
        """Attribute the time of an attempt after its last interval."""
        end = span.end
        if end is None and now is not None and not any(start.intervals for start in starts):
            end = now

        if end is None:
            # It is running, or it was lost without a record. The use of its last seconds is unknown.
            return

        if span.hung_since is not None:
            self.until(min(span.hung_since, end), "repeated")
            self.until(end, "hang")
        elif not starts or not starts[-1].intervals:
            self.until(end, "startup")
        else:
            # After a crash the steps since the last interval are done again. After a good end that time was
            # the shutdown.
            self.until(end, "other" if starts[-1].ended else "repeated")


def lost_share(before: int, after: int, kept: float) -> float:
    """Return the share of the steps from ``before`` to ``after`` that lie after step ``kept``."""
    if after <= kept or after <= before:
        return 0.0

    return (after - max(before, kept)) / (after - before)

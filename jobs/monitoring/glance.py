"""One look at a running job: its progress, loss, speed and remaining time.

Pure, except that it reads the tail of a log.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.amounts import clock
from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.core.reading import open_regular
from jobctl.jobs.core.stamps import seconds_of
from jobctl.jobs.core.text import visible
from jobctl.jobs.monitoring.analysis import last_validation, wall_rate
from jobctl.jobs.monitoring.history import History, column, finite, known, number
from jobctl.jobs.monitoring.opening import Records
from jobctl.jobs.monitoring.steady import mean, of_newest_attempt, rate, recent, split, steady
from jobctl.jobs.runs import store

STALE_FACTOR = 10
"""A log that is silent for this many usual intervals is reported."""
STALE_SECONDS = 120.0
TAIL_BYTES = 1 << 16
_WARNING = re.compile(r" (?P<level>WARNING|ERROR|CRITICAL) [\w.]+: (?P<message>.+)")


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """The present figures of a run for people. An unknown figure is None."""

    run: str
    state: str
    """``waiting``, ``running``, ``silent``, ``stopped``, ``finished``, ``failed`` or ``cancelled``."""
    detail: str
    model: str
    step: int
    max_iters: int
    seconds_left: float | None
    attempt: int
    loss: float | None
    validation_loss: float | None
    learning_rate: float | None
    grad_norm: float | None
    tokens_per_second_now: float | None
    """Speed while steps run, over the newest intervals: not a figure of the whole run."""
    wall_tokens_per_second: float | None
    """Tokens/s over the whole time of the run; None if that time is unknown."""
    mfu_now: float | None
    mfu_peak: float | None
    """The best steady interval so far."""
    ms_per_step_now: float | None
    memory_gb: float | None
    split_now: dict[str, float]
    goodput: float | None
    """Share of the wall-clock time in steps that count; None if it is unknown."""
    warnings: tuple[str, ...]
    steps: list[int]
    losses: list[float]
    rates: list[tuple[int, float]]

    @property
    def has_ended(self) -> bool:
        """Return whether the run will not continue by itself."""
        return self.state in ("finished", "failed", "cancelled")


def glance(
    history: History,
    records: Records,
    now: float,
    *,
    warnings: Sequence[str] = (),
    goodput: Goodput | None = None,
) -> Glance:
    """Return the look at a run at the time ``now``, in seconds since the epoch.

    ``goodput`` is the account of its time.
    """
    # The present speed is that of the newest attempt: an earlier one may have had other GPUs.
    newest = recent(of_newest_attempt(history))
    per_step = mean(newest, "dt_ms")
    remaining = max(0, history.max_iters - history.last_step)
    state, detail = state_of(history, records, now)
    # The remaining time of a run that waits for its next attempt is unknown.
    going = state in ("running", "silent")
    last = history.steps[-1] if history.steps else None
    losses = column(history.steps, "loss")
    shares = finite(column(steady(history).intervals, "mfu"))
    memory = finite(column(history.intervals, "memory_peak_gb"))

    return Glance(
        run=history.name,
        state=state,
        detail=detail,
        model=history.model,
        step=history.last_step,
        max_iters=history.max_iters,
        seconds_left=remaining * per_step / 1e3 if per_step and going and history.max_iters else None,
        # An attempt that died before its first line has a record and no log.
        attempt=max(len(history.segments), records.attempts[-1].attempt if records.attempts else 0),
        loss=known(losses[-1]) if losses else None,
        validation_loss=last_validation(history.evaluations),
        learning_rate=known(number(last.lr)) if last else None,
        grad_norm=known(number(last.grad_norm)) if last else None,
        tokens_per_second_now=rate(newest),
        wall_tokens_per_second=wall_rate(history, records.attempts, goodput),
        mfu_now=mean(newest, "mfu"),
        mfu_peak=max(shares, default=None),
        ms_per_step_now=per_step,
        memory_gb=max(memory, default=None),
        split_now=split(newest),
        goodput=goodput.share if goodput else None,
        warnings=tuple(warnings),
        steps=[step.iter for step in history.steps],
        losses=losses,
        rates=[(i.iter, i.tokens_per_sec) for i in history.intervals if math.isfinite(i.tokens_per_sec)],
    )


def state_of(history: History, records: Records, now: float) -> tuple[str, str]:
    """Return the state of a run and a short reason, from its records and its log alone."""
    # An attempt that was refused beside another says nothing about the run.
    admitted = [attempt for attempt in records.attempts if attempt.reason != "busy"]
    last = admitted[-1] if admitted else None
    latest = seconds_of(last.end or last.start) if last else None
    # An attempt after the cancellation shows that the run was submitted again.
    if records.cancelled is not None and (latest or 0) <= records.cancelled:
        return "cancelled", "its job was cancelled while it waited"

    # The record comes before the log, because a script writes it even after a crash of the trainer.
    if last and last.end is not None:
        state = store.state_of(last)
        details = {
            "stopped": f"{last.reason or 'checkpointed'}; another attempt continues from the checkpoint",
            "failed": f"exit code {last.exit_code}" + (f", {last.reason}" if last.reason else ""),
        }
        return state, details.get(state, "")

    # The log decides for a run that was started by hand, or whose script could not write its end.
    began = seconds_of(last.start) if last else None
    summary = history.summary
    if summary and (began is None or (history.last_write or 0) >= began):
        return (summary.status, summary.reason) if summary.status else ("stopped", summary.reason)

    # Steps of an earlier attempt do not show that this one trains.
    if not history.steps or (began is not None and (history.last_write or 0) < began):
        return "waiting", "no step of this attempt yet" if last else "no step yet"

    return _progress(history, now)


def _progress(history: History, now: float) -> tuple[str, str]:
    """Return the state of a run that has not ended: it still writes, or it is silent."""
    silence = now - (history.last_write or now)
    usual = max((i.seconds for i in recent(of_newest_attempt(history))), default=0.0)
    # Even a run with quick steps writes nothing during a save. So some silence is always allowed.
    if silence > max(STALE_SECONDS, STALE_FACTOR * usual):
        return "silent", f"nothing logged for {clock(silence)}; jobctl doctor {history.name}"

    return "running", ""


def last_warnings(run: Path, attempt: int, count: int = 3) -> list[str]:
    """Return the newest warnings and errors in the log of rank 0; none if it cannot be read."""
    try:
        with open_regular(layout.rank_log(run, attempt, 0)) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []

    matches = [_WARNING.search(line) for line in text.splitlines()]
    # Text of a log must not control the terminal.
    return [visible(f"{m['level'].lower()}: {m['message']}") for m in matches if m][-count:]


def newest_attempt(run: Path) -> int:
    """Return the highest number of a log folder; 0 if there is none."""
    folder = layout.log_dir(run, 0).parent
    try:
        return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0)
    except OSError:
        return 0

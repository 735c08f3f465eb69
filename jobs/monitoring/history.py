"""The typed history of one run: the content of its logs over all attempts, from any tool.

All losses and norms are numbers here. If a log says ``"nan"`` or lacks the value, it is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

PARTS = ("compute", "communication", "optimizer", "data_wait")
"""Parts of a step's time, as the log names them: ``compute_ms`` and so on."""

Number = float | int | str | None
"""A number of a log. JSON has no NaN, so a log may say ``"nan"``."""


def number(value: Any) -> float:
    """Return ``value`` as a float; NaN if it is not a number."""
    # In Python True is an int, but it is not a number of a log.
    if isinstance(value, float | int) and not isinstance(value, bool):
        return float(value)

    try:
        return float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return math.nan


# gc=False: a long log has a million of these, and none of them refers to another.
class Step(msgspec.Struct, tag_field="kind", tag="iteration", gc=False):
    """One update of the weights."""

    iter: int
    loss: Number = None
    lr: Number = None
    grad_norm: Number = None
    samples: int = 0
    """Samples read up to the end of this step; 0 if the log does not give it."""
    skipped: bool = False


class Interval(msgspec.Struct, tag_field="kind", tag="timing", gc=False):
    """The mean over ``steps`` steps that end with ``iter``. Times are milliseconds a step; memory is GB."""

    iter: int
    steps: int = 1
    dt_ms: float = math.nan
    data_wait_ms: float = 0.0
    compute_ms: float = 0.0
    communication_ms: float = 0.0
    optimizer_ms: float = 0.0
    tokens_per_sec: float = math.nan
    mfu: float = math.nan
    """Share of the peak, 0 to 1; NaN if the device's peak is unknown."""
    memory_allocated_gb: float = math.nan
    memory_peak_gb: float = math.nan

    @property
    def seconds(self) -> float:
        """Return the time of the whole interval in seconds; 0 if it is unknown."""
        return self.dt_ms * self.steps / 1e3 if math.isfinite(self.dt_ms) else 0.0


class Evaluation(msgspec.Struct, tag_field="kind", tag="eval", gc=False):
    """A validation loss in nats per token."""

    iter: int
    val_loss: Number = None
    set: str = ""
    perplexity_per_byte: float | None = None


class Save(msgspec.Struct, tag_field="kind", tag="checkpoint", gc=False):
    """A checkpoint that was published."""

    iter: int
    path: str = ""
    holds: str = "everything"
    checkpoint_pause_ms: float = 0.0
    checkpoint_wait_ms: float = 0.0
    write_seconds: float = 0.0
    bytes: int = 0


class SkippedSave(msgspec.Struct, tag_field="kind", tag="checkpoint_skipped", gc=False):
    """A checkpoint that was skipped, because storage was still busy with the one before."""

    iter: int
    writing_seconds: float = 0.0


class Gradients(msgspec.Struct, tag_field="kind", tag="gradients"):
    """Gradient norms by layer."""

    iter: int
    layers: dict[str, Number] = {}


class Start(msgspec.Struct, tag_field="kind", tag="start"):
    """The choices of an attempt."""

    run_name: str = ""
    config: dict[str, Any] = {}
    startup_info: dict[str, Any] = {}


class Began(msgspec.Struct, tag_field="kind", tag="began"):
    """The time at which the launcher began this start, in seconds since the epoch."""

    launched: float = math.nan


class Moment(msgspec.Struct, tag_field="kind", tag="time", gc=False):
    """The time at which the step ``iter`` was done, in seconds since the epoch."""

    iter: int
    at: float = math.nan


class RankTimes(msgspec.Struct, tag_field="kind", tag="ranks", gc=False):
    """Milliseconds that each rank works in a step of one interval."""

    iter: int
    slowest: int = 0
    """The rank that works longest."""
    slowest_ms: float = math.nan
    median_ms: float = math.nan


class Resumed(msgspec.Struct, tag_field="kind", tag="resumed"):
    """The first line of an attempt that continues from the checkpoint of step ``iter``."""

    iter: int = 0


class Summary(msgspec.Struct, tag_field="kind", tag="summary"):
    """The last line of an attempt that ended in order."""

    iter: int = 0
    status: str = ""
    reason: str = ""
    tokens: int = 0
    skipped_steps: int = 0


Line = (
    Step
    | Interval
    | Evaluation
    | Save
    | SkippedSave
    | Gradients
    | RankTimes
    | Start
    | Began
    | Moment
    | Resumed
    | Summary
)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the history that one attempt added."""

    file: str
    began: float | None
    """Seconds since the epoch; None if the log does not give it."""
    resumed_from: int | None
    """Step of the checkpoint; None for an attempt that began anew."""
    last: int
    """Last step that it logged. If it logged none: ``resumed_from``, or 0."""
    repeated: int = 0
    """Steps of earlier attempts that it had to repeat."""
    status: str = ""
    """``finished``, ``stopped``, ``failed``; empty if it logged no end."""
    reason: str = ""


class History(msgspec.Struct, kw_only=True):
    """One run over all its attempts, without the steps that were rolled back."""

    name: str
    path: Path
    """The run's directory, or the document of another tool."""
    config: dict[str, Any] = {}
    startup: dict[str, Any] = {}
    steps: list[Step] = []
    intervals: list[Interval] = []
    evaluations: list[Evaluation] = []
    saves: list[Save] = []
    skipped_saves: list[SkippedSave] = []
    gradients: list[Gradients] = []
    moments: list[Moment] = []
    rank_times: list[RankTimes] = []
    segments: list[Segment] = []
    summary: Summary | None = None
    last_write: float | None = None
    """The time of the last write to the log, in seconds since the epoch."""
    notes: list[str] = []
    """Parts of the log that could not be read."""

    @property
    def last_step(self) -> int:
        return self.steps[-1].iter if self.steps else 0

    @property
    def max_iters(self) -> int:
        """Return the planned steps of the run; 0 if the log does not give them."""
        return whole(self.config.get("max_iters"))

    @property
    def world_size(self) -> int:
        return whole(self.startup.get("world_size")) or whole(self.config.get("world_size")) or 1

    @property
    def model(self) -> str:
        return str(self.startup.get("model") or self.config.get("model_name") or "")

    @property
    def tokens_per_step(self) -> float:
        """Return the tokens of one step over all ranks; 0 if they are unknown."""
        told = number(self.startup.get("tokens_per_iter"))
        if math.isfinite(told):
            return told

        # Logs of other tools give only the speed and the duration of a step.
        products = [i.tokens_per_sec * i.dt_ms / 1e3 for i in self.intervals]
        known = [product for product in products if math.isfinite(product)]
        return sorted(known)[len(known) // 2] if known else 0.0

    @property
    def tokens(self) -> float:
        """Return the tokens that the weights have seen."""
        samples = self.steps[-1].samples if self.steps else 0
        block = whole(self.config.get("block_size"))
        # The log's own count comes first: a resume may have changed the batch.
        return samples * block if samples and block else self.last_step * self.tokens_per_step


def whole(value: Any) -> int:
    """Return ``value`` as a whole number; 0 if it is not a number."""
    amount = number(value)
    return int(amount) if math.isfinite(amount) else 0


Entry = TypeVar("Entry", Step, Interval, Evaluation, Save, SkippedSave, Gradients, Moment, RankTimes)
HEAD = 3
"""The line about a resume is one of this many first lines of a log."""


def column(entries: Iterable[msgspec.Struct], name: str) -> list[float]:
    """Return one field of all entries as floats, NaN if it is missing."""
    values = [getattr(entry, name) for entry in entries]
    # If a log has only numbers, they are not tested one by one: that takes most of the time of a long log.
    if {type(value) for value in values} <= {float, int}:
        return values

    return [number(value) for value in values]


def finite(values: Iterable[float]) -> list[float]:
    """Return the values that are numbers."""
    return [value for value in values if math.isfinite(value)]


def known(value: float) -> float | None:
    """Return ``value``, or None if it is NaN or infinite."""
    return value if math.isfinite(value) else None


def kept(entries: list[Entry], step: int) -> list[Entry]:
    """Return the entries that still hold when training continues after ``step``.

    Entries are in order of steps.
    """
    end = len(entries)
    # Search from the end, because a resume drops few of many entries.
    while end and entries[end - 1].iter > step:
        end -= 1

    return entries[:end]


class Joined:
    """Joins the logs of a run's attempts, the oldest first."""

    def __init__(self, history: History) -> None:
        self.history = history

    def add(self, file: str, began: float | None, lines: Sequence[Line]) -> None:
        """Add one attempt. It continues from its checkpoint, or begins anew and replaces all before it."""
        history = self.history
        resumed = next((line.iter for line in lines[:HEAD] if isinstance(line, Resumed)), None)
        launched = [line.launched for line in lines[:HEAD] if isinstance(line, Began)]
        # This is read before the roll-back, which drops these steps.
        reached = history.last_step
        # The roll-back comes first: the new lines repeat the steps that it drops.
        self._roll_back(resumed or 0)
        for line in lines:
            self._take(line)

        # The later attempt decides the state of the run, so the end of an earlier one no longer counts.
        last_line = lines[-1] if lines else None
        history.summary = last_line if isinstance(last_line, Summary) else None
        history.segments.append(
            Segment(
                file=file,
                began=launched[0] if launched and math.isfinite(launched[0]) else began,
                resumed_from=resumed,
                last=max(history.last_step, resumed or 0),
                repeated=max(0, reached - (resumed or 0)),
                status=history.summary.status if history.summary else "",
                reason=history.summary.reason if history.summary else "",
            )
        )

    def _roll_back(self, step: int) -> None:
        history = self.history
        history.steps = kept(history.steps, step)
        history.intervals = kept(history.intervals, step)
        history.evaluations = kept(history.evaluations, step)
        history.saves = kept(history.saves, step)
        history.skipped_saves = kept(history.skipped_saves, step)
        history.gradients = kept(history.gradients, step)
        history.moments = kept(history.moments, step)
        history.rank_times = kept(history.rank_times, step)

    def _take(self, line: Line) -> None:
        history = self.history
        match line:
            case Step():
                history.steps.append(line)
            case Interval():
                history.intervals.append(line)
            case Evaluation():
                history.evaluations.append(line)
            case Save():
                history.saves.append(line)
            case SkippedSave():
                history.skipped_saves.append(line)
            case Gradients():
                history.gradients.append(line)
            case Start():
                # A later attempt may have other settings, and the newest ones hold.
                history.config = line.config
                history.startup = line.startup_info
            case Moment():
                history.moments.append(line)
            case RankTimes():
                history.rank_times.append(line)
            case Began() | Resumed() | Summary():
                # `add` has read these before.
                pass

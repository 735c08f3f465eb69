"""The data that the page of ``jobctl report`` draws. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobctl.jobs.monitoring import analysis as analyses
from jobctl.jobs.monitoring.analysis import Analysis
from jobctl.jobs.monitoring.buckets import Band, Grid, band, grid_for, places, rounded, spread_out
from jobctl.jobs.monitoring.clock import Clock
from jobctl.jobs.monitoring.history import PARTS, Evaluation, History, column, number
from jobctl.jobs.runs.records import Attempt

BUCKETS = 720
"""Points of a curve: more than the pixel columns of a figure, and few enough for ten runs on one page."""
MOST_EVALUATIONS = 400
MOST_GRADIENTS = 80
"""Rows of gradient norms by layer."""

STEP_COLUMNS = {"loss": "loss", "grad_norm": "grad_norm", "lr": "lr"}
INTERVAL_COLUMNS = {
    "mfu": "mfu",
    "tokens_per_sec": "tokens_per_sec",
    "memory": "memory_peak_gb",
    "step_ms": "dt_ms",
    **{part: f"{part}_ms" for part in PARTS},
}
BANDS = frozenset({"loss", "grad_norm", "mfu", "tokens_per_sec"})
"""Curves with a lowest and a highest value. For the others the mean is enough."""


class Subject(msgspec.Struct, frozen=True):
    """One run of a report."""

    history: History
    analysis: Analysis
    attempts: tuple[Attempt, ...] = ()
    goodput: tuple[tuple[str, float], ...] = ()
    """Share of the wall-clock time by cause, 0 to 1."""


def page_data(subjects: Sequence[Subject], *, most: int = BUCKETS) -> dict[str, Any]:
    """Return the data of the page."""
    # All runs share one grid, so that the page can draw them over each other.
    grid = grid_for(max((s.history.last_step for s in subjects), default=1), most)
    return {
        "steps": grid.ends,
        "parts": list(PARTS),
        "validation_note": analyses.different_sets([s.analysis for s in subjects]),
        "runs": [run_data(subject, grid) for subject in subjects],
    }


def run_data(subject: Subject, grid: Grid) -> dict[str, Any]:
    """Return the curves, the attempts and the tables of one run."""
    history = subject.history
    clock = Clock(history)
    per_step = history.tokens / history.last_step if history.last_step else 0.0
    # Later buckets hold nothing of this run.
    ends = [end for end in grid.ends if end <= history.last_step]

    return {
        "name": history.name,
        "tokens": [rounded(end * per_step) for end in ends],
        "hours": [rounded(clock.at(end)) for end in ends],
        "curves": curves(history, grid),
        "evaluations": [_evaluation(e, per_step, clock) for e in _thinned(history.evaluations)],
        "layers": layers(history, per_step, clock),
        "attempts": attempts(subject, per_step, clock),
        "goodput": [[cause, rounded(share)] for cause, share in subject.goodput],
        "chosen": shown(history.startup),
        "settings": shown(history.config),
        "analysis": analysis_rows(subject.analysis),
    }


def curves(history: History, grid: Grid) -> dict[str, dict[str, list[float | None]]]:
    """Return each curve by name: its mean, and for some the lowest and highest value."""
    step_places = places([step.iter for step in history.steps], grid)
    interval_places = places([interval.iter for interval in history.intervals], grid)
    made = {name: band(column(history.steps, field), step_places) for name, field in STEP_COLUMNS.items()}
    made |= {
        name: band(column(history.intervals, field), interval_places, digits=4)
        for name, field in INTERVAL_COLUMNS.items()
    }

    # A part that was never measured is 0 at every step, and gets no curve.
    return {name: _curve(name, values) for name, values in made.items() if any(v for v in values.mean)}


def _curve(name: str, values: Band) -> dict[str, list[float | None]]:
    """Return a band in the form of the page, without the buckets after the run's last one."""
    length = max((i + 1 for i, value in enumerate(values.mean) if value is not None), default=0)
    curve = {"mean": values.mean[:length]}
    # If each bucket has one value, the three are the same.
    if name in BANDS and values.low != values.high:
        curve |= {"low": values.low[:length], "high": values.high[:length]}

    return curve


def _thinned(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations of the set that the run scored first, at most ``MOST_EVALUATIONS``."""
    # Losses of two sets would make no common curve.
    main = [e for e in evaluations if e.set == evaluations[0].set]
    return [main[i] for i in spread_out(len(main), MOST_EVALUATIONS)]


def _evaluation(evaluation: Evaluation, per_step: float, clock: Clock) -> list[float | None]:
    """Return step, tokens, hours and loss."""
    step = evaluation.iter
    loss = number(evaluation.val_loss)
    place = [float(step), rounded(step * per_step), rounded(clock.at(step))]
    return [*place, rounded(loss) if math.isfinite(loss) else None]


def layers(history: History, per_step: float, clock: Clock) -> dict[str, Any] | None:
    """Return the gradient norms by layer, in the order of the log; None if none were logged."""
    rows = [history.gradients[i] for i in spread_out(len(history.gradients), MOST_GRADIENTS)]
    if not rows:
        return None

    names = list(rows[-1].layers)
    norms = [[number(row.layers.get(name)) for row in rows] for name in names]
    return {
        "steps": [row.iter for row in rows],
        "tokens": [rounded(row.iter * per_step) for row in rows],
        "hours": [rounded(clock.at(row.iter)) for row in rows],
        "names": names,
        "norms": [[rounded(n) if math.isfinite(n) else None for n in row] for row in norms],
    }


def attempts(subject: Subject, per_step: float, clock: Clock) -> list[dict[str, Any]]:
    """Return one entry for each attempt: its place on each axis, and its end."""
    rows = []
    segments = subject.history.segments
    # If the numbers of records and logs differ, it is unknown which belong together.
    alike = len(subject.attempts) == len(segments)
    for position, segment in enumerate(segments):
        begin = segment.resumed_from or 0
        after = segments[position + 1] if position + 1 < len(segments) else None
        # Steps that a later attempt repeated belong to that attempt.
        end = min(segment.last, after.resumed_from or 0) if after else segment.last
        attempt = subject.attempts[position] if alike else None
        rows.append(
            {
                "number": attempt.attempt if attempt else position + 1,
                "steps": [begin, end],
                "tokens": [rounded(begin * per_step), rounded(end * per_step)],
                "hours": [rounded(clock.at(begin)), rounded(clock.at(end))],
                "repeated": segment.repeated,
                "end": segment.status or (attempt.reason if attempt and attempt.reason else ""),
                "reason": segment.reason,
                "job": attempt.job_id if attempt else "",
                "nodes": attempt.nodes if attempt else "",
                "start": attempt.start if attempt else "",
                "exit_code": attempt.exit_code if attempt else None,
            }
        )

    return rows


def shown(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return facts as text, without empty ones."""
    return {key: _shown(value) for key, value in facts.items() if value not in (None, "", [], {})}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))

    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items())

    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def analysis_rows(analysis: Analysis) -> list[list[str]]:
    """Return the guide's analysis as rows of a name and a value."""
    return [[name, value] for name, value in analyses.rows(analysis)]

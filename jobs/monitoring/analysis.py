"""The guide's analysis of a run. Pure.

It has means without warm-up, the best MFU, and the time for the optimal tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.entries import ModelEntry
from jobctl.jobs.catalog.loader import load_entry, load_hardware, names
from jobctl.jobs.core.amounts import counted, short_bytes, short_count
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.goodput import CAUSES, STEPS, Goodput
from jobctl.jobs.core.stamps import seconds_of
from jobctl.jobs.monitoring.history import Evaluation, History, column, finite, known, number
from jobctl.jobs.monitoring.steady import Steady, mean, rate, split, steady
from jobctl.jobs.runs.records import Attempt

LOSS_STEPS = 50
"""The final training loss of a long run is the mean over this many last steps."""
LOSS_SHARE = 0.1
"""But never more than this part of the run."""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """The time that a training to a number of tokens takes at one rate."""

    basis: str
    """``steps``: while steps run. ``wall clock``: with all the time between them."""
    tokens: float
    tokens_per_second: float
    iterations: float | None
    hours: float
    days: float
    gpu_hours: float


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run's log. A figure that the log does not give is None."""

    run: str
    model: str
    device: str
    world_size: int
    status: str
    steps: int
    max_iters: int
    tokens: float
    attempts: int
    """The larger of two numbers: a run by hand has no records, and an attempt that died early has no log."""
    repeated_steps: int
    """Steps that were repeated, because an attempt ended before a checkpoint held them."""
    skipped_steps: int
    warmup_steps: int
    """Steps at the beginning, and after each resume, that the means below leave out."""
    is_whole: bool
    """True if the means include all steps, because the run ended within its warm-up."""
    first_loss: float | None
    last_loss: float | None
    """Mean of the last steps: a single one is noise."""
    validation_loss: float | None
    validation_set: str
    """The data set of the validation loss. Losses of two sets are not comparable."""
    perplexity_per_byte: float | None
    """The perplexity per byte of the validation. It is comparable between tokenizers on one text."""
    mfu: float | None
    mfu_peak: float | None
    peak_flops: float | None
    """The dense peak of one GPU, in FLOP/s. MFU is a share of it."""
    tokens_per_second: float | None
    """While steps run."""
    ms_per_step: float | None
    split: dict[str, float]
    """Share of a step's time by part, 0 to 1."""
    memory_gb: float | None
    memory_peak_gb: float | None
    memory_total_gb: float | None
    """Memory of one GPU by the catalogue, in GB."""
    wall_seconds: float | None
    wall_tokens_per_second: float | None
    """Tokens/s over the whole time: with queues, starts, evaluations, saves and repeated steps."""
    goodput: dict[str, float]
    """Share of the wall-clock time by cause, 0 to 1; empty if the log does not tell it."""
    optimal_tokens: float | None
    projections: tuple[Projection, ...]


def analyse(
    history: History,
    attempts: Sequence[Attempt] = (),
    *,
    goodput: Goodput | None = None,
    skip: int | None = None,
    tokens: float | None = None,
) -> Analysis:
    """Return the analysis of ``history``.

    ``goodput`` is the account of its time. ``skip`` is the number of steps to leave out as warm-up.
    ``tokens`` is the length of the training to project. Raises UserError if ``skip`` leaves nothing.
    """
    intervals, warmup, is_whole = _measured(history, skip)
    losses = finite(column(history.steps, "loss"))
    scored = newest_evaluation(history.evaluations)
    over_all = wall_rate(history, attempts, goodput)
    wanted = tokens or optimal_tokens(history.model)

    return Analysis(
        run=history.name,
        model=history.model,
        device=str(history.startup.get("device") or ""),
        world_size=history.world_size,
        status=history.summary.status if history.summary else "",
        steps=history.last_step,
        max_iters=history.max_iters,
        tokens=history.tokens,
        attempts=max(len(attempts), len(history.segments)),
        repeated_steps=sum(segment.repeated for segment in history.segments),
        skipped_steps=sum(step.skipped for step in history.steps),
        warmup_steps=warmup,
        is_whole=is_whole,
        first_loss=losses[0] if losses else None,
        last_loss=final_loss(losses),
        validation_loss=last_validation(history.evaluations),
        validation_set=scored.set if scored else "",
        perplexity_per_byte=known(number(scored.perplexity_per_byte)) if scored else None,
        mfu=mean(intervals, "mfu"),
        mfu_peak=max(finite(column(intervals, "mfu")), default=None),
        peak_flops=known(number(history.startup.get("peak_flops"))),
        tokens_per_second=rate(intervals),
        ms_per_step=mean(intervals, "dt_ms"),
        split=split(intervals),
        memory_gb=mean(intervals, "memory_allocated_gb"),
        memory_peak_gb=max(finite(column(history.intervals, "memory_peak_gb")), default=None),
        memory_total_gb=memory_total_gb(str(history.startup.get("device") or "")),
        wall_seconds=goodput.wall_seconds if goodput else wall_seconds(history, attempts),
        wall_tokens_per_second=over_all,
        goodput=goodput.shares() if goodput else {},
        optimal_tokens=wanted,
        projections=projections(history, wanted, {"steps": rate(intervals), "wall clock": over_all}),
    )


def _measured(history: History, skip: int | None) -> Steady:
    """Return the steady intervals. Raises UserError if ``skip`` leaves none."""
    measured = steady(history, skip)
    if skip and measured.is_whole:
        raise UserError(
            f"{history.name}: no interval remains after {counted(skip, 'step')}: "
            f"the run has {counted(history.last_step, 'step')}",
            hint="use a smaller --skip N, so that a whole interval of the log remains",
        )

    return measured


def final_loss(losses: Sequence[float]) -> float | None:
    """Return the mean loss of the last steps; None without any."""
    # In a short run 50 steps would be most of the curve.
    last = min(LOSS_STEPS, max(1, int(LOSS_SHARE * len(losses))))
    return statistics.fmean(losses[-last:]) if losses else None


def newest_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the newest evaluation on the set that the run scored first; None without any."""
    # A run may score several sets, whose losses make no common curve.
    chosen = [e for e in evaluations if e.set == evaluations[0].set]
    return chosen[-1] if chosen else None


def last_validation(evaluations: Sequence[Evaluation]) -> float | None:
    """Return the loss of the newest evaluation on the set that the run scored first."""
    scored = newest_evaluation(evaluations)
    return known(number(scored.val_loss)) if scored else None


def different_sets(analyses: Sequence[Analysis]) -> str:
    """Return a sentence if the validation losses of runs are of several sets; otherwise an empty text."""
    scored = [a for a in analyses if a.validation_loss is not None]
    sets = {a.validation_set: [b.run for b in scored if b.validation_set == a.validation_set] for a in scored}
    if len(sets) < 2:
        return ""

    named = "; ".join(f"{name or 'a set without a name'} of {', '.join(runs)}" for name, runs in sets.items())
    words = f"the runs have different validation sets, so you cannot compare their losses: {named}"
    if all(a.perplexity_per_byte is not None for a in scored):
        words += (
            ". If the text is the same, you can compare the perplexity a byte, even with different tokenizers"
        )

    return words


def wall_seconds(history: History, attempts: Sequence[Attempt] = ()) -> float | None:
    """Return the seconds from the first attempt's start to the last sign of life; None if unknown."""
    starts = [seconds_of(a.start) for a in attempts] + [s.began for s in history.segments]
    begin = min((s for s in starts if s is not None), default=None)

    # A copy of a finished run has files of today; its attempts know when it ended.
    ends = [seconds_of(a.end) for a in attempts]
    end = history.last_write if None in ends or not ends else max(e for e in ends if e is not None)
    # The clocks of two hosts may differ, so an end can lie before the start.
    if begin is None or end is None or end <= begin:
        return None

    return end - begin


def wall_rate(
    history: History, attempts: Sequence[Attempt] = (), goodput: Goodput | None = None
) -> float | None:
    """Return tokens/s over the whole time of the run; None if that time is unknown.

    The account of its time also has the wait before the first attempt.
    """
    if goodput:
        return goodput.tokens_per_second or None

    wall = wall_seconds(history, attempts)
    return history.tokens / wall if wall and history.tokens else None


def optimal_tokens(model: str) -> float | None:
    """Return the tokens that the catalogue names for ``model``; None for a model without them."""
    if model not in names("models"):
        return None

    return load_entry("models", model, ModelEntry).optimal_tokens or None


def memory_total_gb(device: str) -> float | None:
    """Return the memory of the GPU that the driver calls ``device``, in GB.

    None if the catalogue does not have it.
    """
    for name in names("hardware"):
        facts = load_hardware(name).facts
        if facts.device and is_device(facts.device, device):
            # The catalogue counts in GiB, a log in GB of 10^9 bytes.
            return facts.memory_gib * 1.073741824

    return None


def projections(
    history: History, tokens: float | None, rates: dict[str, float | None]
) -> tuple[Projection, ...]:
    """Return the time that ``tokens`` take at each rate that is known."""
    if not tokens:
        return ()

    gpus = history.world_size
    made = []
    for basis, tokens_per_second in rates.items():
        if not tokens_per_second:
            continue

        hours = tokens / tokens_per_second / 3600
        made.append(
            Projection(
                basis=basis,
                tokens=tokens,
                tokens_per_second=tokens_per_second,
                iterations=tokens / history.tokens_per_step if history.tokens_per_step else None,
                hours=hours,
                days=hours / 24,
                gpu_hours=hours * gpus,
            )
        )

    return tuple(made)


def text(analysis: Analysis) -> str:
    """Return the analysis for people."""
    named = rows(analysis)
    width = max(len(name) for name, _ in named)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in named)


def rows(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the analysis as names and values."""
    return [*_rows_of_run(analysis), *_rows_of_speed(analysis), *_rows_of_projection(analysis)]


def _rows_of_run(a: Analysis) -> list[tuple[str, str]]:
    share = f" of {a.max_iters:,} ({a.steps / a.max_iters:.0%})" if a.max_iters else ""
    device = f"{a.world_size} × {a.device}" if a.device else counted(a.world_size, "process", "processes")
    # A log of another tool may name neither. Without a log only the run's name is known.
    subject = f"{a.model or 'an unknown model'} on {device}" if a.steps or a.model else "no log"
    rows = [
        ("run", f"{a.run}: {subject}" + (f", {a.status}" if a.status else "")),
        ("steps", f"{a.steps:,}{share}, {short_count(a.tokens)} tokens, {counted(a.attempts, 'attempt')}"),
    ]

    lost = [
        (a.repeated_steps, f"{a.repeated_steps:,} repeated after an attempt ended"),
        (a.skipped_steps, f"{a.skipped_steps:,} skipped because of their loss or gradient"),
    ]
    if any(count for count, _ in lost):
        rows.append(("lost steps", ", ".join(words for count, words in lost if count)))

    if a.first_loss is not None and a.last_loss is not None:
        rows.append(("training loss", f"{a.first_loss:.4f} first, {a.last_loss:.4f} mean of the last steps"))

    if a.validation_loss is not None:
        scored = f" on {a.validation_set}" if a.validation_set else ""
        byte = f", perplexity {a.perplexity_per_byte:.4f} a byte" if a.perplexity_per_byte is not None else ""
        rows.append(("validation loss", f"{a.validation_loss:.4f}{scored}{byte}"))

    return rows


def _rows_of_speed(a: Analysis) -> list[tuple[str, str]]:
    rows = [("not in the means", _left_out(a))] if a.steps else []
    peak = f" of {a.peak_flops / 1e12:,.1f} TFLOP/s dense" if a.peak_flops else ""
    memory = f" of {_size(a.memory_total_gb)}" if a.memory_total_gb else ""
    shown: list[tuple[str, float | None, Callable[[float], str]]] = [
        ("MFU", a.mfu, lambda value: f"{value:.1%} mean, {a.mfu_peak or value:.1%} best interval{peak}"),
        ("tokens/s", a.wall_tokens_per_second, lambda value: f"{value:,.0f} over the whole time"),
        ("in steps", a.tokens_per_second, lambda value: f"{value:,.0f} tokens/s"),
        ("time a step", a.ms_per_step, lambda value: f"{value:,.1f} ms"),
        (
            "memory",
            a.memory_gb,
            lambda value: f"{_size(value)}, {_size(a.memory_peak_gb or value)} peak{memory}",
        ),
    ]

    rows += [(name, words(value)) for name, value, words in shown if value is not None]
    if a.split:
        # A smaller share would be printed as 0.0%.
        parts = [
            f"{name.replace('_', ' ')} {share:.1%}" for name, share in a.split.items() if share >= 0.0005
        ]
        rows.append(("parts of a step", ", ".join(parts)))

    if a.goodput:
        lost = sorted(((share, cause) for cause, share in a.goodput.items() if cause != STEPS), reverse=True)
        # The five largest causes fit on one line.
        causes = [f"{CAUSES[cause]} {share:.1%}" for share, cause in lost[:5] if share >= 0.0005]
        rows.append(
            ("goodput", f"{a.goodput.get(STEPS, 0.0):.1%} of the wall-clock time in steps that count")
        )
        if causes:
            rows.append(("other time", ", ".join(causes)))

    return rows


def _left_out(a: Analysis) -> str:
    if a.is_whole:
        return "nothing: the run is too short to leave out a warm-up"

    return f"{a.warmup_steps} steps of warm-up, and the first interval of each attempt"


def _size(gb: float) -> str:
    return short_bytes(1e9 * gb)


def _rows_of_projection(a: Analysis) -> list[tuple[str, str]]:
    # Before the first step there is no rate to project.
    if not a.steps:
        return []

    if not a.projections:
        model = a.model or "this model"
        return [("projection", f"none: the catalogue has no optimal tokens for {model}; set --tokens N")]

    first = a.projections[0]
    steps = f", {first.iterations:,.0f} steps of this batch" if first.iterations else ""
    named = [("projection", f"to {short_count(first.tokens)} tokens{steps}")]
    for p in a.projections:
        days = f"{p.days:,.1f} days" if p.days < 1000 else f"{p.days / 365.25:,.1f} years"
        cost = f"{p.hours:,.1f} hours ({days}, {p.gpu_hours:,.0f} GPU-hours)"
        named.append((f"at {_rate_name(p)}", cost))

    return named


def _rate_name(projection: Projection) -> str:
    return "step rate" if projection.basis == "steps" else "overall rate"

"""A look at a run as text: rows for a terminal's panel, or one line without a terminal. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jobctl.jobs.core.amounts import clock, short_bytes, short_count
from jobctl.jobs.monitoring.buckets import band, spread_out
from jobctl.jobs.monitoring.glance import Glance

LONGEST_PLOT = 400
"""Points of a curve: two for each column of a wide terminal."""


def line(look: Glance) -> str:
    """Return one line, for a log or a pipe."""
    words = [f"{look.run}: {look.state}"]
    if look.max_iters:
        words.append(f"step {look.step:,}/{look.max_iters:,} ({look.step / look.max_iters:.0%})")
    elif look.step:
        words.append(f"step {look.step:,}")

    shown = [
        ("loss {:.4f}", look.loss),
        ("val {:.4f}", look.validation_loss),
        ("MFU {:.1%} now", look.mfu_now),
        ("{:,.0f} tokens/s", look.wall_tokens_per_second),
        ("{:,.0f} tokens/s in steps now", look.tokens_per_second_now),
        ("grad {:.2f}", look.grad_norm),
        ("lr {:.2e}", look.learning_rate),
    ]
    words += [form.format(value) for form, value in shown if value is not None]
    if look.seconds_left is not None:
        words.append(f"{clock(look.seconds_left)} left")

    if look.detail:
        words.append(look.detail)

    return "  ".join(words)


def rows(look: Glance) -> list[tuple[str, str]]:
    """Return the figures of a panel as names and values."""
    pairs = [("loss", _number(look.loss, "{:.4f}")), ("validation", _number(look.validation_loss, "{:.4f}"))]
    if look.mfu_now is not None and look.mfu_peak is not None:
        pairs.append(("MFU now", f"{look.mfu_now:.1%} (best {look.mfu_peak:.1%})"))

    if look.wall_tokens_per_second is not None:
        pairs.append(("tokens/s", f"{look.wall_tokens_per_second:,.0f} over the whole time"))

    if look.goodput is not None:
        pairs.append(("goodput", f"{look.goodput:.1%} of the wall-clock time"))

    if look.tokens_per_second_now is not None:
        pairs.append(("in steps now", f"{look.tokens_per_second_now:,.0f} tokens/s"))

    if look.ms_per_step_now is not None:
        pairs.append(("a step now", f"{look.ms_per_step_now:,.0f} ms"))

    if look.split_now:
        parts = [
            f"{part.replace('_', ' ')} {share:.0%}"
            for part, share in look.split_now.items()
            if share >= 0.005
        ]
        pairs.append(("step parts", ", ".join(parts)))

    if look.memory_gb is not None:
        pairs.append(("memory", f"{short_bytes(1e9 * look.memory_gb)} peak"))

    pairs.append(("lr", _number(look.learning_rate, "{:.2e}")))
    pairs.append(("gradient", _number(look.grad_norm, "{:.3g}")))
    pairs.append(("attempt", str(look.attempt or "-")))
    return pairs


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def progress(look: Glance, width: int) -> str:
    """Return a bar of ``width`` characters and the words beside it."""
    if not look.max_iters:
        return f"step {look.step:,}"

    share = min(1.0, look.step / look.max_iters)
    filled = round(share * width)
    rest = f", {clock(look.seconds_left)} left" if look.seconds_left is not None else ""
    bar = "█" * filled + "░" * (width - filled)
    return f"{bar} {share:.1%}  step {look.step:,} of {look.max_iters:,}{rest}"


def curve(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return a curve with few points. Each is the mean of a stretch, without values that are not numbers."""
    ends = [place + 1 for place in spread_out(len(xs), LONGEST_PLOT)]
    means = band(ys, ends).mean
    points = [(xs[end - 1], value) for end, value in zip(ends, means, strict=True) if value is not None]
    return [x for x, _ in points], [y for _, y in points]


def after_the_fall(xs: list[float], ys: list[float]) -> tuple[list[float], list[float]]:
    """Return a loss curve without its first fall, which would make the rest look flat."""
    # A short curve consists mostly of its fall, so it stays whole.
    begin = math.ceil(len(xs) * 0.05) if len(xs) > 40 else 0
    return xs[begin:], ys[begin:]


def step_label(step: float) -> str:
    """Return a step for the axis of a plot."""
    return short_count(step)

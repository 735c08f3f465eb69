"""A sweep for people: a table, a plot, and the fastest setting as text to paste. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jobctl.jobs.sweeping.plan import Outcome, Plan
from jobctl.jobs.sweeping.search import is_given_up, largest, next_trial

RESULT = "sweep: the result"
"""The line of a job's log before its page. A user who waits gets the page once, from the verb."""
BAR = 40
"""Characters of the longest bar."""
LONGEST_REASON = 90


def of_arm(outcomes: Sequence[Outcome], arm: int) -> list[Outcome]:
    """Return the outcomes of one arm."""
    return [outcome for outcome in outcomes if outcome.trial.arm == arm]


def fastest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the outcome with the most tokens/s; None if none was measured."""
    timed = [outcome for outcome in outcomes if outcome.tokens_per_second]
    return max(timed, key=lambda outcome: outcome.tokens_per_second or 0.0, default=None)


def is_done(plan: Plan, outcomes: Sequence[Outcome]) -> bool:
    """Return whether all trials have ended."""
    return all(next_trial(plan, arm, of_arm(outcomes, arm)) is None for arm in range(len(plan.arms)))


def page(plan: Plan, outcomes: Sequence[Outcome], ranks: int) -> str:
    """Return the whole page: the table, the plot, and the text to paste."""
    parts = [table(plan, outcomes)]
    if bars := plot(plan, outcomes):
        parts.append(bars)

    best = fastest(outcomes)
    parts.append(snippet(plan, best, ranks) if best else "nothing was measured, so there is no result")
    if not is_done(plan, outcomes):
        parts.append("the sweep has not ended: some trials have not run yet")

    return "\n\n".join(parts)


def table(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Return a line for each arm, with its failures below it."""
    header = ("setting", "largest", "fastest", "tokens/s", "MFU", "peak GB", "ms a step", "")
    rows = [_row(plan, number, of_arm(outcomes, number)) for number in range(len(plan.arms))]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]

    return "\n".join(lines)


def _row(plan: Plan, number: int, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    arm = plan.arms[number]
    best = fastest(outcomes)
    most = largest(outcomes)
    return (
        arm.name or "as chosen",
        str(most) if most else "-",
        f"{best.trial.batch_size} × {best.gradient_accumulation_steps}" if best else "-",
        f"{best.tokens_per_second:,.0f}" if best else "-",
        f"{best.mfu:.1%}" if best and best.mfu else "-",
        f"{best.memory_peak_gb:.2f}" if best and best.memory_peak_gb else "-",
        f"{best.step_ms:,.1f}" if best and best.step_ms else "-",
        _note(plan, number, outcomes),
    )


def _note(plan: Plan, number: int, outcomes: Sequence[Outcome]) -> str:
    """Return the note that a reader needs about an arm."""
    arm = plan.arms[number]
    if arm.problem:
        return f"impossible: {arm.problem}"[:LONGEST_REASON]

    notes = []
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        sizes = ", ".join(str(outcome.trial.batch_size) for outcome in failed)
        given_up = ", given up" if is_given_up(outcomes) else ""
        notes.append(f"{sizes} failed{given_up}: {failed[-1].reason}"[:LONGEST_REASON])

    full = [outcome.trial.batch_size for outcome in outcomes if outcome.status == "memory"]
    if full:
        notes.append(f"out of memory at {min(full)}")

    if next_trial(plan, number, outcomes) is not None:
        notes.append("not done yet")

    return "; ".join(notes)


def plot(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Return the measured tokens/s as bars, the fastest first; empty if none were measured."""
    timed = [(outcome.tokens_per_second, outcome) for outcome in outcomes if outcome.tokens_per_second]
    timed.sort(key=lambda pair: -pair[0])
    if not timed:
        return ""

    most = timed[0][0]
    labels = [_label(plan, outcome) for _, outcome in timed]
    width = max(map(len, labels))
    lines = [
        # Even the slowest outcome gets a visible bar.
        f"{label.ljust(width)}  {'█' * max(1, round(BAR * rate / most))} {rate:,.0f}"
        for label, (rate, _) in zip(labels, timed, strict=True)
    ]

    return "\n".join(["tokens/s", *lines])


def _label(plan: Plan, outcome: Outcome) -> str:
    name = plan.arms[outcome.trial.arm].name
    size = f"batch_size={outcome.trial.batch_size}"
    # In the guide's sweep the name of the arm already has the size.
    return name if size in name.split() else f"{name} {size}".strip()


def chosen_settings(plan: Plan, best: Outcome) -> dict[str, Any]:
    """Return the settings of an outcome that differ from the chosen training."""
    return {
        **plan.arms[best.trial.arm].settings,
        "batch_size": best.trial.batch_size,
        "gradient_accumulation_steps": best.gradient_accumulation_steps,
    }


def snippet(plan: Plan, best: Outcome, ranks: int) -> str:
    """Return the fastest setting for a project file or a catalogue entry, and for the command line."""
    settings = chosen_settings(plan, best)
    batch = best.trial.batch_size * best.gradient_accumulation_steps * ranks
    lines = [f"# the fastest: {best.tokens_per_second:,.0f} tokens/s at {batch:,} sequences a step"]
    # JSON is valid YAML, so these values can be pasted.
    lines += ["settings:", *(f"  {key}: {json.dumps(value)}" for key, value in settings.items())]
    words = " ".join(f"--set {key}={_word(value)}" for key, value in settings.items())

    return "\n".join([*lines, "", f"the same on the command line: {words}"])


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def facts(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the sweep for machines."""
    best = fastest(outcomes)
    arms = []
    for number, arm in enumerate(plan.arms):
        own_outcomes = of_arm(outcomes, number)
        quickest = fastest(own_outcomes)
        arms.append(
            {
                "name": arm.name,
                "settings": arm.settings,
                "largest_batch_size": largest(own_outcomes) or None,
                "fastest_batch_size": quickest.trial.batch_size if quickest else None,
                "tokens_per_second": quickest.tokens_per_second if quickest else None,
                "problem": arm.problem or None,
                "outcomes": own_outcomes,
            }
        )

    return {
        "done": is_done(plan, outcomes),
        "fastest": chosen_settings(plan, best) if best else None,
        "arms": arms,
    }

"""A comparison as text, with one column for each group. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobctl.jobs.monitoring.comparison import RESULTS, Comparison, Group, spread_text

WIDEST = 44
"""Characters of one value; a longer one is cut in the middle."""

UNPAIRED = ("groups", "spread of one")
"""Methods in which the random effect of the seeds hides differences."""


def text(comparison: Comparison) -> str:
    """Return the comparison for people."""
    groups = comparison.groups
    parts = ["\n".join(_members(group) for group in groups)]
    if len(groups) == 1:
        parts.append("no difference: these runs are repeats of one setting")
    else:
        parts.append(_settings(comparison))

    parts.append(_results(comparison))
    return "\n\n".join(parts)


def _members(group: Group) -> str:
    if len(group.members) == 1:
        member = group.members[0]
        return f"{group.name}: {member.analysis.steps:,} steps, seed {member.seed}"

    runs = ", ".join(f"{member.analysis.run} (seed {member.seed})" for member in group.members)
    return f"{group.name}: {len(group.members)} repeats: {runs}"


def _settings(comparison: Comparison) -> str:
    """Return the settings that differ: at least one, because groups with equal settings are one group."""
    rows = [(key, *map(value_text, values)) for key, values in comparison.settings.items()]
    return aligned(("settings that differ", *(group.name for group in comparison.groups)), rows)


def _results(comparison: Comparison) -> str:
    groups = comparison.groups
    rows = []
    for result in RESULTS:
        values = [list(group.values(result.field).values()) for group in groups]
        if any(values):
            rows.append((result.name, *(spread_text(v, result.form) for v in values)))

    lines = [aligned(("results", *(group.name for group in groups)), rows)]
    for group in groups[1:]:
        verdicts = [v for v in comparison.verdicts if v.second == group.name]
        rows = [(f"  {verdict.result}", verdict.words) for verdict in verdicts]
        lines.append(aligned((f"{group.name} against {groups[0].name}", ""), rows))

    lines += comparison.notes
    if any(verdict.difference.is_real is None for verdict in comparison.verdicts):
        lines.append("to tell a difference from chance, repeat each setting with three seeds: --set seed=N")

    losses = [v.difference for v in comparison.verdicts if v.result.endswith("loss")]
    if any(loss.method in UNPAIRED and not loss.is_real for loss in losses):
        lines.append(
            "a seed moves the whole loss curve; use the same seeds on both sides, then you need fewer runs"
        )

    return "\n\n".join(lines)


def value_text(value: Any) -> str:
    """Return a setting as text for people. The middle of a long one is cut out."""
    if isinstance(value, bool):
        return str(value).lower()

    text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
    if len(text) <= WIDEST:
        return text

    half = (WIDEST - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are as wide as their widest cell."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )

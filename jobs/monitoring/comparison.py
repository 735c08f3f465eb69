"""Compare runs: the settings that differ, and whether their results differ too. Pure.

Runs whose settings differ in the seed alone are repeats of one setting: a group. Their spread is the
measure of chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from jobctl.jobs.catalog.resuming import WITHOUT_COST
from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.monitoring.analysis import Analysis, different_sets
from jobctl.jobs.monitoring.history import History, column, whole
from jobctl.jobs.monitoring.significance import (
    WORTH,
    Difference,
    compare,
    compare_curves,
    compare_pairs,
    shared_seeds,
)

CHOSEN = (
    "model",
    "device",
    "world_size",
    "torch",
    "attention_backend",
    "kernels",
    "float8",
    "sharding",
    "cuda_graphs",
    "global_batch_size",
    "dataset",
    "fingerprint",
)
"""Choices at the start of a run that are part of its setting. The others follow from these."""
REPEATED = WITHOUT_COST | {"seed", "run_dir"}
"""Keys of a log that differ between repeats of one setting."""


class Result(msgspec.Struct, frozen=True):
    """One row of the results: its name, its field in an analysis, and its form as text."""

    name: str
    field: str
    form: Callable[[float], str]
    less_is_better: bool
    is_judged: bool = True
    """True if a difference in this result gets a verdict."""


RESULTS = (
    Result("validation loss", "validation_loss", "{:.4f}".format, True),
    Result("perplexity a byte", "perplexity_per_byte", "{:.4f}".format, True, is_judged=False),
    Result("training loss", "last_loss", "{:.4f}".format, True),
    Result("tokens/s", "wall_tokens_per_second", "{:,.0f}".format, False),
    Result("tokens/s in steps", "tokens_per_second", "{:,.0f}".format, False),
    Result("MFU", "mfu", "{:.1%}".format, False),
    Result("ms a step", "ms_per_step", "{:,.1f}".format, True),
    Result("memory peak", "memory_peak_gb", lambda gb: short_bytes(1e9 * gb), True),
)


class Member(msgspec.Struct, frozen=True):
    """One run of a comparison."""

    history: History
    analysis: Analysis

    @property
    def seed(self) -> int:
        return whole(self.history.config.get("seed"))


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one setting."""

    name: str
    """The name of its run if it has only one; otherwise a letter."""
    settings: dict[str, Any]
    members: tuple[Member, ...]

    @property
    def validation_sets(self) -> set[str]:
        """Return the data sets of the validation losses of its runs."""
        scored = [m.analysis for m in self.members if m.analysis.validation_loss is not None]
        return {analysis.validation_set for analysis in scored}

    def values(self, field: str) -> dict[int, float]:
        """Return a result of each run that has it, by seed. If two runs have one seed, both count.

        Losses of several validation sets have no mean, so there are none.
        """
        values: dict[int, float] = {}
        if field == "validation_loss" and len(self.validation_sets) > 1:
            return values

        for position, member in enumerate(self.members):
            value = getattr(member.analysis, field)
            if value is not None:
                # A second run of one seed gets a key that is not a seed, so it has no partner.
                values[member.seed if member.seed not in values else -1 - position] = value

        return values


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one result between two groups."""

    result: str
    first: str
    second: str
    difference: Difference
    words: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All differences between runs."""

    groups: tuple[Group, ...]
    settings: dict[str, tuple[Any, ...]]
    """Each setting that differs, with its value in each group; None if a log does not give it."""
    verdicts: tuple[Verdict, ...]
    """The verdicts of each group, compared with the first."""
    notes: tuple[str, ...]
    """The reasons why some results get no verdict."""


def compared(members: Sequence[Member]) -> Comparison:
    """Return the comparison of runs. The setting of the first run is the base for the others."""
    groups = grouped(members)
    verdicts = [
        verdict
        for group in groups[1:]
        for result in RESULTS
        if (verdict := _verdict(result, groups[0], group)) is not None
    ]

    return Comparison(
        groups=groups, settings=differing(groups), verdicts=tuple(verdicts), notes=_notes(groups)
    )


def _notes(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return the reasons why the losses of these groups are not comparable."""
    notes = [different_sets([member.analysis for group in groups for member in group.members])]
    if any(_other_data(groups[0], group) for group in groups[1:]):
        notes.append("the runs have different training data, so you cannot compare the training losses")

    return tuple(note for note in notes if note)


def _other_data(first: Group, second: Group) -> bool:
    """Return whether two groups were trained on data that is known to differ."""
    prints = [group.settings.get("fingerprint") for group in (first, second)]
    return None not in prints and prints[0] != prints[1]


def _is_comparable(result: Result, first: Group, second: Group) -> bool:
    """Return whether a result of two groups measures the same thing."""
    if result.field == "validation_loss":
        return len(first.validation_sets | second.validation_sets) < 2

    return result.is_judged and not (result.field == "last_loss" and _other_data(first, second))


def setting_of(history: History) -> dict[str, Any]:
    """Return all settings but the seed. Two runs with the same ones are repeats of each other."""
    config = {key: value for key, value in history.config.items() if key not in REPEATED}
    chosen = {key: history.startup[key] for key in CHOSEN if key in history.startup}
    return config | chosen


def grouped(members: Sequence[Member]) -> tuple[Group, ...]:
    """Return the runs by their setting, in the order of their first run."""
    gathered: list[tuple[dict[str, Any], list[Member]]] = []
    for member in members:
        setting = setting_of(member.history)
        # Settings hold lists, so they cannot be keys of a dictionary.
        for known, repeats in gathered:
            if known == setting:
                repeats.append(member)
                break
        else:
            gathered.append((setting, [member]))

    return tuple(
        Group(name=_group_name(number, repeats), settings=setting, members=tuple(repeats))
        for number, (setting, repeats) in enumerate(gathered)
    )


def _group_name(number: int, repeats: Sequence[Member]) -> str:
    return repeats[0].analysis.run if len(repeats) == 1 else f"{chr(ord('A') + number % 26)}"


def differing(groups: Sequence[Group]) -> dict[str, tuple[Any, ...]]:
    """Return the settings whose values are not the same in all groups."""
    # A set would lose the order of the first log.
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    rows = {key: tuple(group.settings.get(key) for group in groups) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _verdict(result: Result, first: Group, second: Group) -> Verdict | None:
    if not _is_comparable(result, first, second):
        return None

    difference = compare(first.values(result.field), second.values(result.field))
    if difference is None:
        return None

    # The same seeds: their curves saw the same batches, step by step.
    if result.field == "last_loss" and _same_batches(first, second):
        # Curves without common late steps fall back to the last losses.
        difference = _by_step(first, second) or difference

    return Verdict(
        result=result.name,
        first=first.name,
        second=second.name,
        difference=difference,
        words=words_of(difference, result),
    )


def _same_batches(first: Group, second: Group) -> bool:
    """Return whether runs of one seed read the same samples at each step in both groups."""
    keys = ("fingerprint", "global_batch_size", "block_size")
    same = all(first.settings.get(key) == second.settings.get(key) for key in keys)
    # With two runs of one seed on a side, the partner is unknown.
    return same and all(len({m.seed for m in g.members}) == len(g.members) for g in (first, second))


def _by_step(first: Group, second: Group) -> Difference | None:
    """Return the difference, step by step, of training losses of runs of one seed; None without such runs."""
    losses = [
        {member.seed: column(member.history.steps, "loss") for member in group.members}
        for group in (first, second)
    ]
    # Several seeds say more than a single one, so pairs come first.
    if shared := shared_seeds(*losses):
        return compare_pairs([(losses[0][seed], losses[1][seed]) for seed in shared])

    if len(losses[0]) == len(losses[1]) == 1 and losses[0].keys() == losses[1].keys():
        (seed,) = losses[0]
        return compare_curves(losses[0][seed], losses[1][seed])

    return None


def words_of(difference: Difference, result: Result) -> str:
    """Return a difference as a sentence."""
    percent = f"{difference.relative:+.2%}"
    spreads = f", {abs(difference.spreads):.1f} spreads" if difference.spreads is not None else ""
    if difference.is_real is None:
        return f"{percent}: only one run each, so this may be chance"

    # More digits would claim a precision that a few runs do not have.
    chance = f"p {difference.p:.2g}" if difference.p is None or difference.p >= 1e-4 else "p < 0.0001"
    if not difference.is_real:
        # Without this sentence a reader takes too few runs as a proof that nothing has changed.
        return f"{percent}{spreads}: no difference ({chance}{_power(difference)})"

    better = (difference.relative < 0) == result.less_is_better
    seeds = ", but only one seed" if difference.method == "one seed" else ""
    return f"{percent}{spreads}: {'better' if better else 'worse'} ({chance}{seeds})"


def _power(difference: Difference) -> str:
    """Return the gap that these runs would show, and the number of runs that would show a smaller one."""
    if not difference.detectable:
        return ""

    shown = f"; these runs can show {difference.detectable:.2%}"
    # Here the runs suffice already, or no number of runs would.
    if difference.detectable <= WORTH or not difference.repeats:
        return shown

    runs = "pairs" if difference.method == "pairs" else "runs of each"
    return f"{shown}; to show {WORTH:.1%}, use {difference.repeats:,} {runs}"


def spread_text(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return a mean with the standard deviation of repeats."""
    if not values:
        return "-"

    mean = form(statistics.fmean(values))
    return f"{mean} ± {form(statistics.stdev(values))}" if len(values) > 1 else mean


def facts(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for machines."""
    groups = [
        {
            "name": group.name,
            "runs": [member.analysis.run for member in group.members],
            "seeds": [member.seed for member in group.members],
            "results": {
                result.field: _figures(list(group.values(result.field).values())) for result in RESULTS
            },
        }
        for group in comparison.groups
    ]
    verdicts = [
        {
            "result": verdict.result,
            "first": verdict.first,
            "second": verdict.second,
            **msgspec.to_builtins(verdict.difference),
            "is_real": verdict.difference.is_real,
        }
        for verdict in comparison.verdicts
    ]

    return {
        "groups": groups,
        "settings": comparison.settings,
        "verdicts": verdicts,
        "notes": comparison.notes,
    }


def _figures(values: list[float]) -> dict[str, Any]:
    return {
        "values": values,
        "mean": statistics.fmean(values) if values else None,
        "spread": statistics.stdev(values) if len(values) > 1 else None,
    }

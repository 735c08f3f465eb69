"""Groups of repeats, the settings that differ, and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.resuming import WITHOUT_COST, WITHOUT_EFFECT
from jobctl.jobs.monitoring.analysis import analyse
from jobctl.jobs.monitoring.comparison import (
    RESULTS,
    Comparison,
    Member,
    compared,
    facts,
    spread_text,
    words_of,
)
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.monitoring.significance import Difference
from tests.jobs.monitoring.runs import write_run


def member(run: Path, **options: Any) -> Member:
    history = RunLog(write_run(run, **options)).read()
    return Member(history, analyse(history))


def with_rate(member: Member, rate: float) -> Member:
    return Member(member.history, msgspec.structs.replace(member.analysis, wall_tokens_per_second=rate))


def verdict(comparison: Comparison, result: str) -> Difference:
    (chosen,) = [v.difference for v in comparison.verdicts if v.result == result]
    return chosen


def test_repeats_are_one_group_and_no_difference(tmp_path: Path) -> None:
    runs = [member(tmp_path / f"r{seed}", seed=seed, settings={"log_interval": seed}) for seed in (1, 2, 3)]
    comparison = compared(runs)
    (group,) = comparison.groups
    assert (len(group.members), comparison.settings, comparison.verdicts) == (3, {}, ())


@pytest.mark.parametrize("name", sorted(WITHOUT_COST))
def test_what_costs_nothing_makes_no_other_setting(name: str, tmp_path: Path) -> None:
    runs = [member(tmp_path / f"r{seed}", seed=seed, settings={name: seed}) for seed in (1, 2)]
    assert len(compared(runs).groups) == 1


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT - WITHOUT_COST))
def test_what_changes_the_speed_alone_is_another_setting(name: str, tmp_path: Path) -> None:
    """Tokens per second are compared as well."""
    runs = [member(tmp_path / f"r{seed}", seed=seed, settings={name: seed}) for seed in (1, 2)]
    assert compared(runs).settings == {name: (1, 2)}


def test_only_the_settings_that_differ_are_told(tmp_path: Path) -> None:
    a = member(tmp_path / "a", seed=1)
    b = member(tmp_path / "b", seed=2, settings={"learning_rate": 1e-3, "torch": "2.6.0"})
    comparison = compared([a, b])
    assert comparison.settings == {"learning_rate": (3e-4, 1e-3), "torch": ("2.13.0", "2.6.0")}
    assert [group.name for group in comparison.groups] == ["a", "b"]


def test_a_planted_gap_is_found_in_repeats_and_chance_is_not(tmp_path: Path) -> None:
    base = [member(tmp_path / f"a{seed}", seed=seed, noise=0.02) for seed in range(1, 7)]
    better = [
        member(tmp_path / f"b{seed}", seed=seed, noise=0.02, scale=0.99, settings={"weight_decay": 0.2})
        for seed in range(11, 17)
    ]
    comparison = compared(base + better)
    assert [len(group.members) for group in comparison.groups] == [6, 6]
    assert [group.name for group in comparison.groups] == ["A", "B"]
    loss = verdict(comparison, "validation loss")
    assert loss.is_real is True
    assert loss.relative == pytest.approx(-0.01, abs=0.003)
    assert loss.spreads is not None
    assert loss.spreads < -3
    assert verdict(comparison, "tokens/s in steps").is_real is False


def test_the_rate_over_all_the_time_stands_beside_the_rate_of_the_steps(tmp_path: Path) -> None:
    slow = member(tmp_path / "a", seed=1)
    fast = member(tmp_path / "b", seed=2, settings={"learning_rate": 1e-3})
    shown = {
        v.result: v.difference.relative
        for v in compared([with_rate(slow, 100.0), with_rate(fast, 200.0)]).verdicts
    }
    assert shown["tokens/s"] == pytest.approx(1.0)
    assert shown["tokens/s in steps"] == pytest.approx(0.0)


def test_single_runs_of_one_seed_are_compared_step_by_step(tmp_path: Path) -> None:
    a = member(tmp_path / "a", seed=7)
    b = member(tmp_path / "b", seed=7, scale=1.005, settings={"weight_decay": 0.2})
    loss = verdict(compared([a, b]), "training loss")
    assert (loss.method, loss.is_real) == ("one seed", True)
    other = member(tmp_path / "c", seed=8, scale=1.005, settings={"weight_decay": 0.2})
    assert verdict(compared([a, other]), "training loss").is_real is None


def test_runs_of_one_seed_both_count(tmp_path: Path) -> None:
    runs = [member(tmp_path / name, seed=1) for name in ("a", "b")]
    (group,) = compared(runs).groups
    assert len(group.values("last_loss")) == 2


def test_words_say_which_way_is_better() -> None:
    loss = RESULTS[0]
    rate = next(result for result in RESULTS if result.name == "tokens/s in steps")
    lower = Difference(relative=-0.005, spreads=-3.2, p=1e-6, method="groups")
    assert words_of(lower, loss) == "-0.50%, 3.2 spreads: better (p < 0.0001)"
    assert words_of(lower, rate) == "-0.50%, 3.2 spreads: worse (p < 0.0001)"
    chance = Difference(relative=0.001, spreads=0.1, p=0.6, method="groups")
    assert words_of(chance, loss) == "+0.10%, 0.1 spreads: no difference (p 0.6)"
    few = Difference(relative=0.001, spreads=0.1, p=0.6, method="groups", detectable=0.02, repeats=45)
    power = "these runs can show 2.00%; to show 0.5%, use 45 runs of each"
    assert words_of(few, loss) == f"+0.10%, 0.1 spreads: no difference (p 0.6; {power})"
    pairs = Difference(relative=0.001, spreads=0.1, p=0.6, method="pairs", detectable=0.02, repeats=9)
    assert "to show 0.5%, use 9 pairs" in words_of(pairs, loss)
    enough = Difference(relative=0.001, spreads=0.1, p=0.6, method="pairs", detectable=0.004, repeats=9)
    assert words_of(enough, loss).endswith("these runs can show 0.40%)")
    alone = Difference(relative=0.001, spreads=None, p=None, method="none")
    assert "one run each" in words_of(alone, loss)
    seed = Difference(relative=0.001, spreads=None, p=0.001, method="one seed")
    assert words_of(seed, loss) == "+0.10%: worse (p 0.001, but only one seed)"


def test_machines_get_the_same_figures(tmp_path: Path) -> None:
    runs = [member(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2)]
    runs.append(member(tmp_path / "b", seed=3, settings={"weight_decay": 0.2}))
    told = facts(compared(runs))
    assert [group["runs"] for group in told["groups"]] == [["a1", "a2"], ["b"]]
    assert told["settings"] == {"weight_decay": (0.1, 0.2)}
    assert len(told["groups"][0]["results"]["last_loss"]["values"]) == 2
    assert {v["method"] for v in told["verdicts"]} == {"spread of one"}


def test_a_spread_is_shown_for_repeats() -> None:
    form = "{:.1f}".format
    assert [spread_text(values, form) for values in ([], [2.0], [1.0, 3.0])] == ["-", "2.0", "2.0 ± 1.4"]


def test_losses_of_different_validation_sets_get_no_verdict(tmp_path: Path) -> None:
    base = [member(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2, 3)]
    of_other_set = {"scored": {"set": "val-y"}, "settings": {"weight_decay": 0.2}}
    others = [member(tmp_path / f"b{seed}", seed=seed, **of_other_set) for seed in (1, 2, 3)]
    comparison = compared(base + others)
    assert [v.result for v in comparison.verdicts if "loss" in v.result] == ["training loss"]
    (note,) = comparison.notes
    assert note.endswith("compare their losses: val-x of a1, a2, a3; val-y of b1, b2, b3")
    assert facts(comparison)["notes"] == (note,)


def test_repeats_that_were_scored_on_different_sets_have_no_mean_validation_loss(tmp_path: Path) -> None:
    runs = [member(tmp_path / f"a{seed}", seed=seed, scored={"set": f"val-{seed}"}) for seed in (1, 2)]
    comparison = compared(runs)
    assert comparison.groups[0].values("validation_loss") == {}
    assert len(comparison.notes) == 1


def test_other_training_data_give_no_verdict_on_the_training_loss(tmp_path: Path) -> None:
    byte = {"perplexity_per_byte": 3.25}
    base = member(tmp_path / "a", seed=1, scored=byte)
    other = member(
        tmp_path / "b", seed=1, scored={"set": "val-y", **byte}, settings={"fingerprint": "e" * 64}
    )
    comparison = compared([base, other])
    assert [v.result for v in comparison.verdicts if "loss" in v.result] == []
    assert "you can compare the perplexity a byte" in comparison.notes[0]
    assert "different training data" in comparison.notes[1]
    assert comparison.groups[1].values("perplexity_per_byte") == {1: 3.25}

"""The comparison as a user reads it."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.monitoring.comparison import compared
from jobctl.jobs.monitoring.comparison_text import aligned, text, value_text
from tests.jobs.monitoring.test_comparison import member


def test_settings_results_and_verdicts_stand_below_each_other(tmp_path: Path) -> None:
    runs = [member(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2)]
    runs.append(member(tmp_path / "b", seed=3, settings={"weight_decay": 0.2}))
    lines = text(compared(runs)).splitlines()
    assert lines[0] == "A: 2 repeats: a1 (seed 1), a2 (seed 2)"
    assert lines[1] == "b: 200 steps, seed 3"
    assert "weight_decay          0.1  0.2" in lines
    assert any(line.startswith("validation loss    3.") and "±" in line for line in lines)
    assert "b against A" in lines


def test_repeats_alone_say_so(tmp_path: Path) -> None:
    runs = [member(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2)]
    assert "no difference: these runs are repeats of one setting" in text(compared(runs))


def test_without_repeats_the_text_says_how_to_get_a_verdict(tmp_path: Path) -> None:
    runs = [member(tmp_path / "a", seed=1), member(tmp_path / "b", seed=2, settings={"weight_decay": 0.2})]
    assert "--set seed=N" in text(compared(runs))


def test_other_seeds_that_show_nothing_get_the_advice_to_take_the_same_ones(tmp_path: Path) -> None:
    base = [member(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2, 3)]
    others = [member(tmp_path / f"b{seed}", seed=seed, settings={"weight_decay": 0.2}) for seed in (4, 5, 6)]
    same = [member(tmp_path / f"c{seed}", seed=seed, settings={"weight_decay": 0.2}) for seed in (1, 2, 3)]
    assert "the same seeds on both sides" in text(compared(base + others))
    assert "the same seeds on both sides" not in text(compared(base + same))


def test_long_values_keep_their_ends() -> None:
    assert (value_text(None), value_text(True)) == ("-", "true")
    assert value_text(["a", "b"]) == "a, b"
    shown = value_text("/root/" + "x" * 80 + "/end")
    assert (len(shown), shown[:6], shown[-4:]) == (43, "/root/", "/end")


def test_columns_are_aligned() -> None:
    assert aligned(("a", "b"), [("xxx", "1")]) == "a    b\nxxx  1"


def test_different_validation_sets_are_told(tmp_path: Path) -> None:
    runs = [member(tmp_path / "a"), member(tmp_path / "b", scored={"set": "val-y"}, settings={"beta1": 0.8})]
    assert "the runs have different validation sets, so you cannot compare their losses" in text(
        compared(runs)
    )

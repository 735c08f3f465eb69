"""The trials of ``bench.compare_power``: sides without a gap, and with the one that is planted."""

from __future__ import annotations

import random
from pathlib import Path

from bench.compare_power import read_seeds, shares, sides, spreads
from tests.jobs.monitoring.runs import write_run


def runs(folder: Path) -> list[Path]:
    return [
        write_run(folder / f"{decay}-{seed}", seed=seed, noise=0.002, settings={"weight_decay": decay})
        for seed in range(1, 5)
        for decay in (0.1, 0.1001)
    ]


def test_each_seed_has_a_run_on_either_side(tmp_path: Path) -> None:
    pairs = read_seeds(runs(tmp_path))
    first, second = sides(pairs, random.Random(1), apart=False)
    assert len(first) == len(second) == 4
    assert all(a.config["seed"] == b.config["seed"] for a, b in zip(first, second, strict=True))
    assert {h.config["weight_decay"] for h in first} == {0.1, 0.1001}
    apart = sides(pairs, random.Random(1), apart=True)
    assert not {h.config["seed"] for h in apart[0]} & {h.config["seed"] for h in apart[1]}


def test_a_planted_gap_is_found_and_no_other(tmp_path: Path) -> None:
    pairs = read_seeds(runs(tmp_path))
    assert shares(pairs, 0.0, 5, apart=False)["training loss"] == 0.0
    assert shares(pairs, 0.05, 5, apart=False)["training loss"] == 1.0


def test_one_run_of_each_seed_says_how_many_are_needed(tmp_path: Path) -> None:
    seeds = read_seeds([write_run(tmp_path / f"r{seed}", seed=seed, noise=0.05) for seed in range(1, 9)])
    assert [len(same) for same in seeds] == [1] * 8
    facts = spreads(seeds)["validation loss"]
    assert facts["spread"]
    assert 0.002 < facts["spread"] < 0.01
    assert facts["runs_of_each_side"]
    assert facts["runs_of_each_side"] > 5
    assert shares(seeds, 0.0, 5, apart=True)["validation loss"] == 0.0
